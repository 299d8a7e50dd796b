"""What the server should do: a model, without sockets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Event(NamedTuple):
    """What a client does, such as a request, or notices, such as a message."""

    client: int
    kind: str
    group: str = ""
    text: str = ""

    def __str__(self) -> str:
        """Return the words of a report."""
        words = [repr(word) for word in (self.group, self.text) if word]
        return " ".join([self.kind, *words])


Messages = list[tuple[int, str]]  # who hears what, in order


@dataclass(frozen=True)
class Model:
    """The groups, and who is in which. Each request makes a new model of it."""

    groups: frozenset[str] = frozenset()
    group_of: Mapping[int, str] = field(default_factory=dict)  # "" is no group

    def after(self, request: Event) -> "tuple[Model, Messages]":
        """Return the model after a request, and what the clients hear."""
        client, kind, group, text = request
        model, messages = self, list[tuple[int, str]]()
        match kind:
            case "comes":
                model = Model(self.groups, {**self.group_of, client: ""})
            case "leaves":
                others = {n: name for n, name in self.group_of.items() if n != client}
                model = Model(self.groups, others)
            case "ECHO":
                messages = [(client, text)]
            case "ECHO_TIMES_3":
                messages = [(client, text)] * 3
            case "ECHO_TO_ALL":
                messages = [(n, text) for n in self.group_of]
            case "CREATE_GROUP" if group not in self.groups:
                group_of = {**self.group_of, client: group}
                model, messages = (
                    Model(self.groups | {group}, group_of),
                    [(client, group)],
                )
            case "JOIN_GROUP" if group in self.groups:
                group_of = {**self.group_of, client: group}
                model, messages = Model(self.groups, group_of), [(client, group)]
            case "CREATE_GROUP" | "JOIN_GROUP":
                messages = [(client, "GROUP_UNAVAILABLE")]
            case "MESSAGE_GROUP":
                if self.group_of[client] == group:
                    members = [n for n, name in self.group_of.items() if name == group]
                    messages = [(n, text) for n in members]
            case _:
                messages = [(client, "INVALID_MESSAGE")]
        return model, messages
