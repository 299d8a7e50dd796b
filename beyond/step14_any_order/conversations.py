"""Conversations: clients come, talk at once, leave, or vanish at any moment."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

from .model import Event, Model
from .search import find_order
from .simulation import Connector, Test, choose, note, run_server
from .store import Store
from .utils import create_socket_client

CLIENTS = range(1, 4)
GROUPS = "AB"  # exist from the start
FIRST = [*[("JOIN_GROUP", name) for name in "AAAB"], ("CREATE_GROUP", "C")]
FIRST += [("ECHO_TO_ALL", "")]
REQUESTS = [("MESSAGE_GROUP", "its own")] * 6
REQUESTS += [("JOIN_GROUP", name) for name in "AABBC"]
REQUESTS += [("CREATE_GROUP", "C")] * 3
REQUESTS += [("MESSAGE_GROUP", name) for name in "AB"]
REQUESTS += [("ECHO_TO_ALL", ""), ("ECHO_TO_ALL", ""), ("ECHO_TIMES_3", "")]
PAUSES = ["none", "none", "none", "settle", "10 ms", "until it hears something"]
Create = Callable[[web.Application, Store[web.WebSocketResponse]], None]


def as_json(request: Event) -> dict[str, object]:
    """Return the message that makes this request."""
    value: object = request.text or request.group
    if request.kind == "MESSAGE_GROUP":
        value = {"groupName": request.group, "groupMessage": request.text}
    return {"type": request.kind, "value": value}


class Conversation:
    """A conversation of clients with a server."""

    def __init__(self, url: str) -> None:
        """Talk to the server at `url`; nothing has happened yet."""
        self.url = url
        self.history: list[Event] = []

    async def hold(self) -> None:
        """Hold the conversation; fail if no order explains what the clients heard."""
        await asyncio.gather(*[self.live(n) for n in CLIENTS])
        if find_order(self.history, Model(frozenset(GROUPS))) is None:
            raise AssertionError(self.report())

    async def live(self, n: int) -> None:
        """Let a client come, send some requests, and go."""

        def decode(text: str) -> str:
            self.history.append(Event(n, "hears", text=text))
            return text

        await asyncio.sleep(choose([0, 0.01, 0.03]))
        self.history.append(Event(n, "comes"))
        connector = Connector()
        async with create_socket_client(
            self.url, connector=connector, decode=decode
        ) as client:
            self.history.append(Event(n, "is up to date"))
            client.number, group = n, GROUPS[0]
            for number in range(choose([1, 2, 3, 4, 5])):
                kind, name = choose(REQUESTS if number else FIRST)
                text = f"{n}.{number}" if kind.startswith(("ECHO", "M")) else ""
                name = group if name == "its own" else name
                group = name or group
                request = Event(n, kind, name, text)
                self.history.append(request)
                await client.send_json(as_json(request))
                match choose(PAUSES):
                    case "settle":
                        await client.settle()
                        self.history.append(Event(n, "is up to date"))
                    case "10 ms":
                        await asyncio.sleep(0.01)
                    case "until it hears something":
                        count = len(client.messages) + 1
                        with suppress(TimeoutError):
                            await client.wait_for_message_count(count, timeout=0.05)
            end = choose(["leaves", "leaves", "leaves", "vanishes"])
            note(f"client {n} {end}")
            self.history.append(Event(n, end))
            if end == "vanishes":
                connector.cut_off()
                await client.wait_for_close(1006)
        if end == "leaves":
            self.history.append(Event(n, "is up to date"))

    def report(self) -> str:
        """Return what each client did, and what it heard."""
        lines = ["No order of the requests explains what the clients heard."]
        for n in CLIENTS:
            events = [event for event in self.history if event.client == n]
            heard = [event.text for event in events if event.kind == "hears"]
            lines.append(f"client {n}: {', '.join(map(str, self.actions(n)))}")
            lines.append(f"client {n} heard {heard}")
        return "\n".join(lines)

    def actions(self, n: int) -> list[Event]:
        """Return what a client did."""
        notices = ("hears", "is up to date")
        return [it for it in self.history if it.client == n and it.kind not in notices]


def talk_to(create_websocket_server: Create) -> Test:
    """Return a test that holds a conversation with a server of this kind."""

    async def test() -> None:
        app = web.Application()
        create_websocket_server(app, Store(GROUPS))
        async with run_server(app) as url:
            await Conversation(url).hold()

    return test
