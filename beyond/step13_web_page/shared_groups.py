"""Groups that have members in other processes, too."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

from .broker import Broker, UnavailableError
from .groups import Client, Groups

GROUP_ID = re.compile("[A-Za-z0-9_-]{43}")  # what secrets.token_urlsafe() returns
Deliver = Callable[[set[Client], bytes], Awaitable[None]]


class SharedGroups(Groups[Client]):
    """The groups that are here: they have members in this process, or wait for them.

    While a group is here, this process subscribes to it at the broker.
    """

    def __init__(self, grace: float, broker: Broker, deliver: Deliver[Client]) -> None:
        """Start without groups.

        `deliver` gets members, and what another process has published for them.
        """
        super().__init__(grace)
        self.broker = broker
        self.deliver = deliver
        self.searches: dict[str, asyncio.Task[bool]] = {}  # running, by group id
        self.unsubscribing: set[asyncio.Task[None]] = set()

    async def share(self, client: Client, name: str) -> str:
        """Create a group with its first member, and return its id.

        Raises `UnavailableError` if the broker is away.
        """
        group_id = secrets.token_urlsafe()
        await self.subscribe(group_id, name)
        self.join(client, group_id)
        return group_id

    async def subscribe(self, group_id: str, name: str) -> None:
        """Subscribe to a group; it is here now, without members as yet."""
        members: set[Client] = set()
        deliver = partial(self.deliver, members)
        await self.broker.subscribe(f"groups.{group_id}", deliver, name)
        self.add(group_id, name)
        self.members_of[group_id] = members  # an earlier subscription has its own

    async def find(self, group_id: str) -> bool:
        """Tell whether a group exists; if it is elsewhere, subscribe to it.

        Clients that look for the same group share one search, so nobody has to queue.
        """
        while group_id not in self:  # it may end before it is this client's turn
            if not GROUP_ID.fullmatch(group_id):  # it becomes part of a NATS subject
                return False
            if group_id not in self.searches:
                search = asyncio.create_task(self.search(group_id))
                self.searches[group_id] = search
            # If one client is cancelled, the search goes on for the others.
            if not await asyncio.shield(self.searches[group_id]):
                return False
        return True

    async def search(self, group_id: str) -> bool:
        """Look for a group in other processes, and subscribe to it."""
        try:
            name = await self.broker.ask(f"groups.{group_id}")
            await self.subscribe(group_id, name)
        except UnavailableError:
            return False
        finally:
            del self.searches[group_id]
        return True

    async def publish(self, group_id: str, message: str) -> None:
        """Send a message to the members in other processes.

        Raises `UnavailableError` if the broker is away.
        """
        await self.broker.publish(f"groups.{group_id}", message)

    def delete(self, group_id: str) -> None:
        """Delete a group that has no members here, and start to unsubscribe."""
        super().delete(group_id)
        unsubscribing = self.broker.unsubscribe(f"groups.{group_id}")
        task = asyncio.create_task(unsubscribing)
        self.unsubscribing.add(task)
        task.add_done_callback(self.unsubscribing.discard)

    async def settle(self) -> None:
        """Wait until all subscriptions that are ending have ended."""
        if self.unsubscribing:
            await asyncio.wait(self.unsubscribing)
