"""What the server should do: a model, without sockets, one request at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple


class Event(NamedTuple):
    """What a client does or notices: for example a request, or a message it hears."""

    client: int
    kind: str
    group: str = ""
    text: str = ""

    def __str__(self) -> str:
        """Return the line of a report."""
        words = [repr(self.group)] if self.kind.endswith("_GROUP") else []
        words += [repr(self.text)] if self.text or self.kind == "hears" else []
        return " ".join([self.kind, *words])


Messages = list[tuple[int, str]]  # who hears what, in order


@dataclass(frozen=True)
class Model:
    """The groups, and who is in which. A request makes another model of it."""

    groups: frozenset[str] = frozenset()
    group_of: Mapping[int, str] = field(default_factory=dict)  # "" is none

    def key(self) -> object:
        """Return what is equal for equal models, and can be hashed."""
        return self.groups, frozenset(self.group_of.items())

    def after(self, request: Event) -> "tuple[Model, Messages]":
        """Return the model after a request, and what the clients hear."""
        client, kind, group, text = request
        match kind:
            case "comes":
                return replace(self, group_of={**self.group_of, client: ""}), []
            case "leaves":
                others = {n: g for n, g in self.group_of.items() if n != client}
                return replace(self, group_of=others), []
            case "ECHO":
                return self, [(client, text)]
            case "ECHO_TIMES_3":
                return self, [(client, text)] * 3
            case "ECHO_TO_ALL":
                return self, [(n, text) for n in self.group_of]
            case "CREATE_GROUP" if group not in self.groups:
                new = replace(self, groups=self.groups | {group})
                return new.move(client, group)
            case "JOIN_GROUP" if group in self.groups:
                return self.move(client, group)
            case "CREATE_GROUP" | "JOIN_GROUP":
                return self, [(client, "GROUP_UNAVAILABLE")]
            case "MESSAGE_GROUP" if self.group_of[client] == group:
                members = [n for n, g in self.group_of.items() if g == group]
                return self, [(n, text) for n in members]
            case "MESSAGE_GROUP":
                return self, []
            case _:
                return self, [(client, "INVALID_MESSAGE")]

    def move(self, client: int, group: str) -> "tuple[Model, Messages]":
        """Move a client to a group, and confirm it."""
        group_of = {**self.group_of, client: group}
        return replace(self, group_of=group_of), [(client, group)]
