"""What the server should do: a model, without sockets."""

from collections import defaultdict
from collections.abc import Iterable

Message = dict[str, object]


class Model:
    """The clients, their groups, and what each client should hear.

    It handles one request at a time. The id of a group cannot be known before
    the server has made it: here, the first group is "group 1", the next "group 2".
    """

    def __init__(self) -> None:
        """Start without clients or groups."""
        self.created: list[tuple[int, str]] = []  # who created which
        self.names: dict[str, str] = {}  # only groups that exist
        self.groups_of: dict[int, set[str]] = {}  # only clients that are connected
        self.heard: dict[int, list[Message]] = defaultdict(list)
        self.start_record()

    def connect(self, client: int) -> None:
        """Connect a client, perhaps again: it is in no group."""
        self.groups_of[client] = set()
        self.always_in[client] = set()
        self.been_in[client] = set()

    def disconnect(self, client: int) -> None:
        """Disconnect a client."""
        for group in [*self.groups_of[client]]:
            self.leave(client, group)
        del self.groups_of[client]

    def request(self, client: int, kind: str, group: str, text: str) -> None:
        """Handle a message of type `kind`; unknown types are invalid.

        To create a group, `group` is its name.
        """
        match kind:
            case "ECHO":
                self.tell([client], "ECHO", text)
            case "ECHO_TIMES_3":
                for _ in range(3):
                    self.tell([client], "ECHO", text)
            case "ECHO_TO_ALL":
                sent = self.tell(self.groups_of, "ECHO", text)
                self.sent.append((client, None, sent))
            case "CREATE_GROUP":
                created = f"group {len(self.created) + 1}"
                self.created.append((client, created))
                self.names[created] = group
                self.join(client, created, "GROUP_CREATED")
            case "JOIN_GROUP" if group in self.names:
                self.join(client, group, "GROUP_JOINED")
            case "LEAVE_GROUP" if group in self.groups_of[client]:
                self.leave(client, group)
                self.tell([client], "GROUP_LEFT", group)
            case "MESSAGE_GROUP" if group in self.groups_of[client]:
                members = [n for n, groups in self.groups_of.items() if group in groups]
                value = {"groupId": group, "groupMessage": text}
                sent = self.tell(members, "GROUP_MESSAGE", value)
                self.sent.append((client, group, sent))
            case "JOIN_GROUP" | "LEAVE_GROUP" | "MESSAGE_GROUP":
                self.tell([client], "GROUP_UNAVAILABLE", group)
            case _:
                self.tell([client], "INVALID_MESSAGE", None)

    def join(self, client: int, group: str, reply: str) -> None:
        """Add a client to a group, and confirm it."""
        self.groups_of[client].add(group)
        self.been_in[client].add(group)
        value = {"groupId": group, "groupName": self.names[group]}
        self.tell([client], reply, value)

    def leave(self, client: int, group: str) -> None:
        """Remove a client from a group; without members the group is deleted."""
        self.groups_of[client].remove(group)
        self.always_in[client].discard(group)
        if not any(group in groups for groups in self.groups_of.values()):
            del self.names[group]

    def tell(self, clients: Iterable[int], kind: str, value: object) -> Message:
        """Send a message to `clients`."""
        message = {"type": kind, "value": value}
        for client in clients:
            self.heard[client].append(message)
        return message

    def start_record(self) -> None:
        """Start to record, for `allows`, who sends what to whom."""
        self.sent: list[tuple[int, str | None, Message]] = []  # to a group, or to all
        self.always_in = {n: {*groups} for n, groups in self.groups_of.items()}
        self.been_in = {n: {*groups} for n, groups in self.groups_of.items()}

    def allows(self, client: int, heard: list[Message], in_turn: list[Message]) -> bool:
        """Tell whether `client` may have heard this since the record started.

        What came because of each client must be complete and in order. Because of the
        client itself: the replies that it got `in_turn`. Because of another client: all
        broadcasts, and all messages to groups that `client` was in the whole time. If
        it was in a group for part of the time, a message to it may have come or not.
        """

        def came_from(who: int, messages: list[Message]) -> list[Message]:
            senders = [
                next((who for who, _, sent in self.sent if sent == message), client)
                for message in messages
            ]
            return [m for m, by in zip(messages, senders, strict=True) if by == who]

        for other in {who for who, _, _ in self.sent} - {client}:
            came = came_from(other, heard)
            due = [
                sent
                for who, group, sent in self.sent
                if who == other
                if group is None
                or group in self.always_in[client]
                or (group in self.been_in[client] and sent in came)
            ]
            if came != due:
                return False
        return came_from(client, heard) == came_from(client, in_turn)
