"""Step 12's servers on two hosts, with a broker between them that can be cut off."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

import pytest
from aiohttp import web

from .hub import Hub, HubBroker
from .model import Event
from .simulation import Connector, Test, choose, explore, note, run_server
from .utils import create_socket_client

step12 = pytest.importorskip("step12_many_processes.server")  # not in a copy elsewhere
CLIENTS = range(1, 5)  # the odd ones are on the first host
KINDS = ["MESSAGE_GROUP", "JOIN_GROUP", "MESSAGE_GROUP", "LEAVE_GROUP", "MESSAGE_GROUP"]


class Conversation:
    """A conversation of clients of both servers, in one group."""

    def __init__(self, urls: list[str], brokers: list[HubBroker]) -> None:
        """Take the servers' URLs, and their brokers."""
        self.urls, self.brokers = urls, brokers
        self.group_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.history: list[Event] = []

    async def live(self, n: int) -> None:
        """Let a client come, join the group, talk, and leave."""

        def decode(frame: str) -> object:
            message = json.loads(frame)
            value = message["value"]
            text = value.get("groupMessage", "") if isinstance(value, dict) else ""
            self.history.append(Event(n, message["type"], text=text))
            return message

        async with create_socket_client(
            self.urls[(n + 1) % 2], connector=Connector(), decode=decode
        ) as client:
            client.number = n
            if n == 1:
                await client.send_json({"type": "CREATE_GROUP", "value": "A"})
                await client.wait_for_message_count(1)
                self.group_id.set_result(client.messages[0]["value"]["groupId"])
            group_id = await self.group_id
            for number in range(choose([1, 2, 3, 4, 5])):
                kind = choose(KINDS) if number or n == 1 else "JOIN_GROUP"
                text = f"{n}.{number}" if kind == "MESSAGE_GROUP" else ""
                message = {"groupId": group_id, "groupMessage": text}
                self.history.append(Event(n, kind, text=text))
                await client.send_json(
                    {"type": kind, "value": message if text else group_id}
                )
                match choose(["none", "none", "settle", "until it hears something"]):
                    case "settle":
                        await client.settle()
                        self.history.append(Event(n, "is up to date"))
                    case "until it hears something":
                        count = len(client.messages) + 1
                        with suppress(TimeoutError):
                            await client.wait_for_message_count(count, timeout=0.05)
            await asyncio.sleep(1)  # until everything has come
            self.history.append(Event(n, "leaves"))

    async def cut_off(self) -> None:
        """Cut a process off from the broker for a while."""
        await self.group_id
        await asyncio.sleep(choose([0, 0.005, 0.01, 0.02, 0.05]))
        broker = choose(self.brokers)
        note("a process is cut off")
        self.history.append(Event(0, "is cut off"))
        broker.cut()
        await asyncio.sleep(choose([0.001, 0.01, 0.05]))
        await broker.start()
        note("it is back")
        await asyncio.sleep(0.1)  # until it has subscribed again
        self.history.append(Event(0, "is back"))


class Promises:
    """Follows a conversation; fails if one of step 12's promises is broken."""

    def __init__(self) -> None:
        """Start without events."""
        self.inside = set[int]()  # who has been told that it is in the group
        self.leaving = set[int]()  # who has asked to leave it
        self.last: dict[tuple[int, int], int] = {}  # number, by listener and sender
        self.wanted: dict[str, set[int]] = {}  # who must hear it, if it is accepted
        self.due: dict[int, set[str]] = {n: set() for n in CLIENTS}
        self.is_cut_off = False

    def follow(self, event: Event) -> None:
        """Follow one event."""
        n, kind, _, text = event
        match kind:
            case "GROUP_CREATED" | "GROUP_JOINED":
                self.inside.add(n)
            case "GROUP_LEFT":
                self.inside.discard(n)
            case "MESSAGE_GROUP":
                members = self.inside - self.leaving
                self.wanted[text] = {m for m in members if self.reaches(text, m)}
            case "GROUP_MESSAGE":
                self.hear(n, text)
            case "LEAVE_GROUP" | "leaves":
                assert kind != "leaves" or not self.due[n], f"{n} misses {self.due[n]}"
                self.leaving.add(n)
                self.forget(lambda _, member: member != n)
            case "is up to date":
                self.leaving.discard(n)
            case "is cut off":
                self.is_cut_off = True
                self.forget(self.reaches)  # what is under way may be lost
            case "is back":
                self.is_cut_off = False

    def hear(self, n: int, text: str) -> None:
        """Let a client hear a message."""
        sender, number = map(int, text.split("."))
        assert n in self.inside, f"client {n} hears {text}, and is not in the group"
        last = self.last.get((n, sender), -1)
        assert number > last, f"client {n} hears {text} again, or too late"
        self.last[n, sender] = number
        self.due[n].discard(text)
        self.wanted.get(text, set()).discard(n)
        if n == sender:  # so its server has accepted the message
            for member in self.wanted.pop(text, ()):
                self.due[member].add(text)

    def reaches(self, text: str, member: int) -> bool:
        """Tell whether a message must reach a member now."""
        return not self.is_cut_off or (int(text[0]) - member) % 2 == 0

    def forget(self, keep: Callable[[str, int], bool]) -> None:
        """Forget who must hear what, except what `keep` tells."""
        for text, members in self.wanted.items():
            self.wanted[text] = {member for member in members if keep(text, member)}
        for member, texts in self.due.items():
            self.due[member] = {text for text in texts if keep(text, member)}


def talk(*, is_cut_off: bool) -> Test:
    """Return a test: two servers, and a conversation."""

    async def test() -> None:
        hub = Hub(step12.UnavailableError)
        brokers = [HubBroker(hub), HubBroker(hub)]
        urls: list[str] = []
        async with AsyncExitStack() as stack:
            for number, broker in enumerate(brokers, 1):
                app = web.Application()
                step12.create_websocket_server(app, broker=broker)
                running = run_server(app, f"server{number}")
                urls.append(await stack.enter_async_context(running))
            conversation = Conversation(urls, brokers)
            work = [conversation.live(n) for n in CLIENTS]
            if is_cut_off:
                work.append(conversation.cut_off())
            await asyncio.gather(*work)
        promises = Promises()
        for event in conversation.history:
            promises.follow(event)

    return test


async def test_two_processes_keep_their_promises() -> None:
    await explore(talk(is_cut_off=False))


async def test_process_that_is_cut_off_loses_messages_and_nothing_else() -> None:
    await explore(talk(is_cut_off=True))
