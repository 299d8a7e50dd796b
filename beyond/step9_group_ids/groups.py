"""Who is in which group."""

import secrets
from typing import Generic, TypeVar

Client = TypeVar("Client")  # the groups do not care what it is


class Groups(Generic[Client]):
    """The groups that there are, and the clients that are in them.

    A group exists as long as it has members. Names may repeat, ids do not.
    """

    def __init__(self) -> None:
        """Begin without groups."""
        self.names: dict[str, str] = {}  # of the groups, by their ids
        self.members_of: dict[str, set[Client]] = {}  # by the same ids
        self.groups_of: dict[Client, set[str]] = {}  # has the clients that are in one

    def __contains__(self, group_id: str) -> bool:
        """Tell whether there is such a group."""
        return group_id in self.names

    def members(self, group_id: str) -> set[Client]:
        """Return the clients in a group; an unknown group has none."""
        return self.members_of.get(group_id, set())

    def create(self, client: Client, name: str) -> str:
        """Create a group with a first member, and return its id.

        Anyone who knows an id can join, so ids must be unguessable.
        """
        group_id = secrets.token_urlsafe()
        self.names[group_id] = name
        self.members_of[group_id] = set()
        self.join(client, group_id)
        return group_id

    def join(self, client: Client, group_id: str) -> None:
        """Make a client a member of a group; one that is a member stays one."""
        self.members_of[group_id].add(client)
        self.groups_of.setdefault(client, set()).add(group_id)

    def leave(self, client: Client, group_id: str) -> None:
        """Take a member out of its group; the last one takes the group with it."""
        self.members_of[group_id].remove(client)
        if not self.members_of[group_id]:
            del self.members_of[group_id], self.names[group_id]
        self.groups_of[client].remove(group_id)
        if not self.groups_of[client]:
            del self.groups_of[client]

    def leave_all(self, client: Client) -> None:
        """Take a client that goes out of all its groups."""
        for group_id in list(self.groups_of.get(client, ())):
            self.leave(client, group_id)
