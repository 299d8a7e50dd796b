"""What the server should do: a model, without sockets."""

from collections import defaultdict
from collections.abc import Iterable


class Model:
    """The clients, their groups, and what each client should hear.

    It handles one request at a time.
    """

    def __init__(self) -> None:
        """Start without clients or groups."""
        self.groups: list[str] = []
        self.group_of: dict[int, str | None] = {}  # only clients that are connected
        self.heard: dict[int, list[str | bytes]] = defaultdict(list)
        self.start_record()

    def connect(self, client: int) -> None:
        """Connect a client, perhaps again: it is in no group."""
        self.group_of[client] = None
        self.been_in[client] = {None}

    def disconnect(self, client: int) -> None:
        """Disconnect a client."""
        del self.group_of[client]

    def request(self, client: int, kind: str, group: str, text: str) -> None:
        """Handle a message of type `kind`; unknown types are invalid."""
        match kind:
            case "ECHO":
                self.tell([client], text)
            case "ECHO_TIMES_3":
                self.tell([client], text, text, text)
            case "ECHO_TO_ALL":
                self.sent.append((client, None, text))
                self.tell(self.group_of, text)  # all that are connected
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
        """Move a client to a group, and confirm it."""
        self.group_of[client] = group
        self.been_in[client].add(group)
        self.tell([client], group)

    def tell(self, clients: Iterable[int], *texts: str) -> None:
        """Send `texts` to `clients`."""
        for client in clients:
            self.heard[client] += texts

    def start_record(self) -> None:
        """Start to record, for `allows`, who sends what to whom."""
        self.sent: list[tuple[int, str | None, str]] = []  # to a group, or to all
        self.been_in = {client: {group} for client, group in self.group_of.items()}

    def allows(
        self, client: int, heard: list[str | bytes], in_turn: list[str | bytes]
    ) -> bool:
        """Tell whether `client` may have heard this since the record started.

        What came because of each client must be complete and in order. Because of the
        client itself: the replies that it got `in_turn`. Because of another client: all
        broadcasts, and all messages to groups that `client` was in the whole time. If
        it was in a group for part of the time, a message to it may have come or not.
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
