"""What the server should do, without a socket."""

from collections import defaultdict
from collections.abc import Iterable

Message = dict[str, object]


class Model:
    """The clients, the groups that they are in, and what each of them should hear.

    It deals with one request after the other. The id of a group cannot be known before
    the server has made it: here, the first group is "group 1", the next "group 2".
    """

    def __init__(self) -> None:
        """Begin without clients, and without groups."""
        self.created: list[tuple[int, str]] = []  # by whom, and which
        self.names: dict[str, str] = {}  # of the groups that there are
        self.groups_of: dict[int, set[str]] = {}  # has the clients that are connected
        self.heard: dict[int, list[Message]] = defaultdict(list)
        self.start_record()

    def connect(self, client: int) -> None:
        """Let a client come, or come back: it is in no group."""
        self.groups_of[client] = set()
        self.always_in[client] = set()
        self.been_in[client] = set()

    def disconnect(self, client: int) -> None:
        """Let a client go, in whichever way."""
        for group in [*self.groups_of[client]]:
            self.leave(client, group)
        del self.groups_of[client]

    def request(self, client: int, kind: str, group: str, text: str) -> None:
        """Deal with a message of a type, `kind`; one of another type is invalid.

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
        """Let a client be in a group, and confirm it."""
        self.groups_of[client].add(group)
        self.been_in[client].add(group)
        value = {"groupId": group, "groupName": self.names[group]}
        self.tell([client], reply, value)

    def leave(self, client: int, group: str) -> None:
        """Let a client be in a group no more; one without members is deleted."""
        self.groups_of[client].remove(group)
        self.always_in[client].discard(group)
        if not any(group in groups for groups in self.groups_of.values()):
            del self.names[group]

    def tell(self, clients: Iterable[int], kind: str, value: object) -> Message:
        """Let `clients` hear a message."""
        message = {"type": kind, "value": value}
        for client in clients:
            self.heard[client].append(message)
        return message

    def start_record(self) -> None:
        """Begin to record what goes to others, for `allows`: who sends what to whom."""
        self.sent: list[tuple[int, str | None, Message]] = []  # to a group, or to all
        self.always_in = {n: {*groups} for n, groups in self.groups_of.items()}
        self.been_in = {n: {*groups} for n, groups in self.groups_of.items()}

    def allows(self, client: int, heard: list[Message], in_turn: list[Message]) -> bool:
        """Tell whether a client may have heard this, since the record began.

        That is so if what came from any one client is complete and in order: from this
        one its replies, which are those that it got `in_turn`; from another what went
        to all, and to a group that this one was in all the time. To a group that it was
        in for a part of the time, a message may have come, or not.
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
