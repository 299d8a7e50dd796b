"""What the server should do, without a socket."""

from collections import defaultdict
from collections.abc import Iterable


class Model:
    """The clients, the groups that they are in, and what each of them should hear.

    It deals with one request after the other.
    """

    def __init__(self) -> None:
        """Begin without clients, and without groups."""
        self.groups: list[str] = []
        self.group_of: dict[int, str | None] = {}  # has the clients that are connected
        self.heard: dict[int, list[str | bytes]] = defaultdict(list)
        self.start_record()

    def connect(self, client: int) -> None:
        """Let a client come, or come back: it is in no group."""
        self.group_of[client] = None
        self.been_in[client] = {None}

    def disconnect(self, client: int) -> None:
        """Let a client go, in whichever way."""
        del self.group_of[client]

    def request(self, client: int, kind: str, group: str, text: str) -> None:
        """Deal with a message of a type, `kind`; one of another type is invalid."""
        match kind:
            case "ECHO":
                self.tell([client], text)
            case "ECHO_TIMES_3":
                self.tell([client], text, text, text)
            case "ECHO_TO_ALL":
                self.sent.append((client, None, text))
                self.tell(self.group_of, text)
            case "CREATE_GROUP" if group not in self.groups:
                self.groups.append(group)
                self.move(client, group)
            case "JOIN_GROUP" if group in self.groups:
                self.move(client, group)
            case "CREATE_GROUP" | "JOIN_GROUP":
                self.tell([client], "GROUP_UNAVAILABLE")
            case "MESSAGE_GROUP":
                if self.group_of[client] == group:
                    self.sent.append((client, group, text))
                    self.tell([n for n, g in self.group_of.items() if g == group], text)
            case _:
                self.tell([client], "INVALID_MESSAGE")

    def move(self, client: int, group: str) -> None:
        """Move a client into a group, and confirm it."""
        self.group_of[client] = group
        self.been_in[client].add(group)
        self.tell([client], group)

    def tell(self, clients: Iterable[int], *texts: str) -> None:
        """Let `clients` hear `texts`."""
        for client in clients:
            self.heard[client] += texts

    def start_record(self) -> None:
        """Begin to record what goes to others, for `allows`: who sends what to whom."""
        self.sent: list[tuple[int, str | None, str]] = []  # to a group, or to all
        self.been_in = {client: {group} for client, group in self.group_of.items()}

    def allows(
        self, client: int, heard: list[str | bytes], in_turn: list[str | bytes]
    ) -> bool:
        """Tell whether a client may have heard this, since the record began.

        That is so if what came from any one client is complete and in order: from this
        one its replies, which are those that it got `in_turn`; from another what went
        to all, and to a group that this one was in all the time. To a group that it was
        in for a part of the time, a message may have come, or not.
        """
        sender: dict[str | bytes, int] = {text: who for who, _, text in self.sent}
        for other in {*sender.values()} - {client}:
            came = [text for text in heard if sender.get(text) == other]
            groups = self.been_in[client]
            due = [
                text
                for who, group, text in self.sent
                if who == other
                if group is None
                or groups == {group}
                or (group in groups and text in came)
            ]
            if came != due:
                return False
        own = [text for text in heard if sender.get(text, client) == client]
        return own == [text for text in in_turn if sender.get(text, client) == client]
