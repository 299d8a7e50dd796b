"""What the server keeps: the groups, and who is in them. It stands for a database."""

import asyncio
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Client = TypeVar("Client", bound=Hashable)


class Store(Generic[Client]):
    """Groups and their members. Each call takes a moment, there and back."""

    def __init__(self, groups: Iterable[str] = (), seconds: float = 0.001) -> None:
        """Start with `groups`, without members. Each way takes `seconds`."""
        # Dicts keep their order; that of a set can differ from process to process.
        self.members_of: dict[str, dict[Client, None]] = {name: {} for name in groups}
        self.seconds = seconds

    async def has_group(self, name: str) -> bool:
        """Tell whether a group exists."""
        await asyncio.sleep(self.seconds)
        exists = name in self.members_of
        await asyncio.sleep(self.seconds)
        return exists

    async def add_group(self, name: str) -> None:
        """Add a group without members, unless it exists."""
        await asyncio.sleep(self.seconds)
        self.members_of.setdefault(name, {})
        await asyncio.sleep(self.seconds)

    async def members(self, name: str) -> list[Client]:
        """Return a group's members; an unknown group has none."""
        await asyncio.sleep(self.seconds)
        members = list(self.members_of.get(name, ()))
        await asyncio.sleep(self.seconds)
        return members

    async def add_member(self, client: Client, name: str) -> None:
        """Add a client to a group."""
        await asyncio.sleep(self.seconds)
        self.members_of[name][client] = None
        await asyncio.sleep(self.seconds)

    async def remove_member(self, client: Client, name: str) -> None:
        """Remove a client from a group."""
        await asyncio.sleep(self.seconds)
        self.members_of[name].pop(client, None)
        await asyncio.sleep(self.seconds)
