"""Which clients are in which groups."""

import asyncio
import secrets
from typing import Generic, TypeVar

Client = TypeVar("Client")  # any hashable type


class Groups(Generic[Client]):
    """All groups, and the clients in them.

    A group exists while it has members, and `grace` seconds longer if the last member's
    connection was lost. Ids are unique, names need not be.
    """

    def __init__(self, grace: float) -> None:
        """Start without groups."""
        self.grace = grace
        self.timers: dict[str, asyncio.TimerHandle] = {}  # for groups without members
        self.names: dict[str, str] = {}  # by group id
        self.members_of: dict[str, set[Client]] = {}  # by group id
        self.groups_of: dict[Client, set[str]] = {}  # only clients that are in one

    def __contains__(self, group_id: str) -> bool:
        """Tell whether a group exists."""
        return group_id in self.names

    def members(self, group_id: str) -> set[Client]:
        """Return a group's members; an unknown group has none."""
        return self.members_of.get(group_id, set())

    def create(self, client: Client, name: str) -> str:
        """Create a group with its first member, and return its id.

        Anyone who knows an id can join, so ids must be unguessable.
        """
        group_id = secrets.token_urlsafe()
        self.add(group_id, name)
        self.join(client, group_id)
        return group_id

    def add(self, group_id: str, name: str) -> None:
        """Add a group, without members as yet."""
        self.names[group_id] = name
        self.members_of[group_id] = set()

    def join(self, client: Client, group_id: str) -> None:
        """Add a client to a group; nothing changes if it is a member already."""
        if timer := self.timers.pop(group_id, None):
            timer.cancel()
        self.members_of[group_id].add(client)
        self.groups_of.setdefault(client, set()).add(group_id)

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
