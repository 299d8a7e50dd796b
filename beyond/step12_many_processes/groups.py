"""Who is in which group, and which groups are there elsewhere."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from .broker import Broker, UnavailableError

GROUP_ID = re.compile("[A-Za-z0-9_-]{43}")  # what secrets.token_urlsafe() returns
Client = TypeVar("Client")  # the groups do not care what it is


class Groups(Generic[Client]):
    """The groups that have members here, and the clients that are in them.

    A group exists as long as it has members, and `grace` seconds longer when the last
    one's connection was lost. Names may repeat, ids do not.
    While it has members here, or waits for them, this process subscribes to it at the
    broker.
    """

    def __init__(
        self,
        grace: float,
        broker: Broker,
        deliver: Callable[[set[Client], bytes], Awaitable[None]],
    ) -> None:
        """Begin without groups.

        `deliver` takes members, and what another process has published for them.
        """
        self.grace = grace
        self.broker = broker
        self.deliver = deliver
        self.searches: dict[str, asyncio.Task[bool]] = {}  # under way, by ids
        self.unsubscribing: set[asyncio.Task[None]] = set()
        self.timers: dict[str, asyncio.TimerHandle] = {}  # of groups without members
        self.names: dict[str, str] = {}  # of the groups, by their ids
        self.members_of: dict[str, set[Client]] = {}  # by the same ids
        self.groups_of: dict[Client, set[str]] = {}  # has the clients that are in one

    def __contains__(self, group_id: str) -> bool:
        """Tell whether there is such a group here."""
        return group_id in self.names

    def members(self, group_id: str) -> set[Client]:
        """Return the clients in a group; an unknown group has none."""
        return self.members_of.get(group_id, set())

    async def create(self, client: Client, name: str) -> str:
        """Create a group with a first member, and return its id.

        Anyone who knows an id can join, so ids must be unguessable.
        Raises `UnavailableError` when the broker is away.
        """
        group_id = secrets.token_urlsafe()
        await self.subscribe(group_id, name)
        self.join(client, group_id)
        return group_id

    async def subscribe(self, group_id: str, name: str) -> None:
        """Take part in a group: from now on it is here, as yet without members."""
        members: set[Client] = set()
        deliver = partial(self.deliver, members)
        await self.broker.subscribe(f"groups.{group_id}", deliver, name)
        self.names[group_id] = name
        self.members_of[group_id] = members

    async def find(self, group_id: str) -> bool:
        """Tell whether there is such a group; if it is elsewhere, take part in it.

        Clients that look for the same one share the search: nobody waits in a queue.
        """
        while group_id not in self:  # it may go again before a client's turn comes
            if not GROUP_ID.fullmatch(group_id):  # it becomes part of a subject
                return False
            if group_id not in self.searches:
                search = asyncio.create_task(self.search(group_id))
                self.searches[group_id] = search
            # A client that is cancelled must not cancel the others' search.
            if not await asyncio.shield(self.searches[group_id]):
                return False
        return True

    async def search(self, group_id: str) -> bool:
        """Look for a group at other processes, and take part in it."""
        try:
            name = await self.broker.ask(f"groups.{group_id}")
            await self.subscribe(group_id, name)
        except UnavailableError:
            return False
        finally:
            del self.searches[group_id]
        return True

    def join(self, client: Client, group_id: str) -> None:
        """Make a client a member of a group; one that is a member stays one."""
        if timer := self.timers.pop(group_id, None):
            timer.cancel()
        self.members_of[group_id].add(client)
        self.groups_of.setdefault(client, set()).add(group_id)

    async def publish(self, group_id: str, message: str) -> None:
        """Send a message to the members elsewhere.

        Raises `UnavailableError` when the broker is away.
        """
        await self.broker.publish(f"groups.{group_id}", message)

    def leave(self, client: Client, group_id: str, *, lost: bool = False) -> None:
        """Take a member out of its group; the last one takes the group with it.

        Unless its connection was lost: then the group stays for those who come back.
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
        """Take a client that goes out of all its groups."""
        for group_id in list(self.groups_of.get(client, ())):
            self.leave(client, group_id, lost=lost)

    def delete(self, group_id: str) -> None:
        """Delete a group that has no members any more."""
        self.timers.pop(group_id, None)
        del self.members_of[group_id], self.names[group_id]
        self.unsubscribe(group_id)

    def unsubscribe(self, group_id: str) -> None:
        """Begin to take no part in a group any more."""
        unsubscribing = self.broker.unsubscribe(f"groups.{group_id}")
        task = asyncio.create_task(unsubscribing)
        self.unsubscribing.add(task)
        task.add_done_callback(self.unsubscribing.discard)

    async def settle(self) -> None:
        """Wait until nobody elsewhere finds a group here that all have left."""
        if self.unsubscribing:
            await asyncio.wait(self.unsubscribing)
