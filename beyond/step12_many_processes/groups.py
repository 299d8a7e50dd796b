"""Which clients are in which groups, here and in other processes."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from .broker import Broker, UnavailableError

GROUP_ID = re.compile("[A-Za-z0-9_-]{43}")  # what secrets.token_urlsafe() returns
Client = TypeVar("Client")  # any hashable type


class Groups(Generic[Client]):
    """The groups that have members here, and these members.

    A group exists while it has members, and `grace` seconds longer if the last member's
    connection was lost. Ids are unique, names need not be.
    While a group has members here, or waits for them, this process subscribes to it at
    the broker.
    """

    def __init__(
        self,
        grace: float,
        broker: Broker,
        deliver: Callable[[set[Client], bytes], Awaitable[None]],
    ) -> None:
        """Start without groups.

        `deliver` gets members, and what another process has published for them.
        """
        self.grace = grace
        self.broker = broker
        self.deliver = deliver
        self.searches: dict[str, asyncio.Task[bool]] = {}  # running, by group id
        self.unsubscribing: set[asyncio.Task[None]] = set()
        self.timers: dict[str, asyncio.TimerHandle] = {}  # for groups without members
        self.names: dict[str, str] = {}  # by group id
        self.members_of: dict[str, set[Client]] = {}  # by group id
        self.groups_of: dict[Client, set[str]] = {}  # only clients that are in one

    def __contains__(self, group_id: str) -> bool:
        """Tell whether a group has members here, or waits for them."""
        return group_id in self.names

    def members(self, group_id: str) -> set[Client]:
        """Return a group's members; an unknown group has none."""
        return self.members_of.get(group_id, set())

    async def create(self, client: Client, name: str) -> str:
        """Create a group with its first member, and return its id.

        Anyone who knows an id can join, so ids must be unguessable.
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
        self.names[group_id] = name
        self.members_of[group_id] = members

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

    def join(self, client: Client, group_id: str) -> None:
        """Add a client to a group; nothing changes if it is a member already."""
        if timer := self.timers.pop(group_id, None):
            timer.cancel()
        self.members_of[group_id].add(client)
        self.groups_of.setdefault(client, set()).add(group_id)

    async def publish(self, group_id: str, message: str) -> None:
        """Send a message to the members in other processes.

        Raises `UnavailableError` if the broker is away.
        """
        await self.broker.publish(f"groups.{group_id}", message)

    def leave(self, client: Client, group_id: str, *, lost: bool = False) -> None:
        """Remove a member from a group; without members the group is deleted.

        If the member's connection was lost, the group stays for `grace` seconds more.
        """
        self.members_of[group_id].remove(client)
        if not self.members_of[group_id]:
            if lost and self.grace:
                loop = asyncio.get_running_loop()
                timer = loop.call_later(self.grace, self.delete, group_id)
                self.timers[group_id] = timer
            else:
                self.delete(group_id)
        self.groups_of[client].remove(group_id)
        if not self.groups_of[client]:
            del self.groups_of[client]

    def leave_all(self, client: Client, *, lost: bool) -> None:
        """Remove a client that disconnects from all its groups."""
        for group_id in list(self.groups_of.get(client, ())):
            self.leave(client, group_id, lost=lost)

    def delete(self, group_id: str) -> None:
        """Delete a group that has no members."""
        self.timers.pop(group_id, None)
        del self.members_of[group_id], self.names[group_id]
        self.unsubscribe(group_id)

    def unsubscribe(self, group_id: str) -> None:
        """Start to end the subscription to a group."""
        unsubscribing = self.broker.unsubscribe(f"groups.{group_id}")
        task = asyncio.create_task(unsubscribing)
        self.unsubscribing.add(task)
        task.add_done_callback(self.unsubscribing.discard)

    async def settle(self) -> None:
        """Wait until all subscriptions that are ending have ended."""
        if self.unsubscribing:
            await asyncio.wait(self.unsubscribing)
