"""Conversations that nobody has written: each client hears what the model says.

There are 50 of each kind, always the same ones. CONVERSATIONS=1000 in the environment
makes it 1,000.
"""

import asyncio
import io
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from itertools import product
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientError, web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import StrOrURL
from hypothesis import Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from ..conftest import Options
from ..messages import TEXTS as USUAL_TEXTS
from ..messages import (
    create,
    create_socket_client,
    cut_off,
    join,
    leave,
    message,
)
from ..model import Model
from ..server import PATH, create_websocket_server
from ..utils import TestWebSocket, bounded
from .invalid import INVALID_MESSAGES


def as_json(kind: str, value: object) -> str:
    """Return the text of a message."""
    return json.dumps({"type": kind, "value": value})


def vary(value: object) -> object:
    """Return the same message with more keys, in another order."""
    if not isinstance(value, dict):
        return value
    return {**{key: vary(value[key]) for key in reversed(value)}, "more": [1.5]}


CLIENTS = range(1, 6)
NAMES = [*"AAB", "", " A ", "\N{ANGSTROM SIGN}", "x" * 126]
GROUPS = [f"group {n}" for n in (1, 2, 3, 4, 5, 6, 1, 2, 3)]  # as the model names them
TEXTS = [*USUAL_TEXTS, "HI", '"HI"']
TYPES = ["ECHO", "ECHO_TIMES_3", "ECHO_TO_ALL"]
TYPES += ["CREATE_GROUP", "JOIN_GROUP", "LEAVE_GROUP", "MESSAGE_GROUP"]
WRONG = [None, 1, True, ["A"], {}, {"groupId": "A"}, {"groupMessage": "HI"}]
NONSENSE: dict[str, str | bytes] = {
    **INVALID_MESSAGES,
    **{f"{kind} {value}": as_json(kind, value) for kind in TYPES for value in WRONG},
    "an empty object": "{}",
    "two objects": as_json("ECHO", "HI") + "\n" + as_json("ECHO", "HI"),
    "a longer type": as_json("ECHO_TIMES_30", "HI"),
    "a list as group's id": json.dumps(message(["A"])),
    "a number as group's message": json.dumps(message("A", 1)),
    "no bytes": b"",
    "bytes in UTF-16": as_json("ECHO", "HI").encode("utf-16"),
    "bytes in Latin-1": '{"type": "ECHO", "value": "é"}'.encode("latin-1"),
}


class Action(NamedTuple):
    """What a client does: it connects, disconnects, or sends a message."""

    kind: str
    group: str = ""
    text: str = ""
    form: str = ""  # "in a binary frame" or "in another form"

    def __repr__(self) -> str:
        """Return the line of a report."""
        if self.kind in NONSENSE:
            return f"nonsense, {self.kind}"
        words = [self.kind]
        if self.kind.endswith("_GROUP"):
            words.append(show(self.group))
        if self.kind.startswith(("ECHO", "MESSAGE")):
            words.append(show(self.text))
        if self.form:
            words.append(self.form)
        return " ".join(words)

    def frame(self, group_id: str) -> str | bytes:
        """Return what the client sends: text, or bytes for a binary frame."""
        if self.kind in NONSENSE:
            return NONSENSE[self.kind]
        requests = {
            "CREATE_GROUP": create(self.group),
            "JOIN_GROUP": join(group_id),
            "LEAVE_GROUP": leave(group_id),
            "MESSAGE_GROUP": message(group_id, self.text),
        }
        request = requests.get(self.kind, {"type": self.kind, "value": self.text})
        if self.form == "in another form":
            return f"\r\n\t {json.dumps(vary(request), separators=(',', ':'))} "
        text = json.dumps(request)
        return text.encode() if self.form == "in a binary frame" else text


# The actions to choose from; the more often one is here, the more often it is chosen.
COMING_AND_GOING = [
    *[Action("comes")] * 50,
    *[Action("leaves")] * 35,
    *[Action("vanishes")] * 15,
]
REQUESTS = [
    *[Action("ECHO", text=text) for text in TEXTS] * 3,
    *[Action("ECHO_TIMES_3", text=text) for text in TEXTS] * 2,
    *[Action("ECHO_TO_ALL", text=text) for text in TEXTS] * 5,
    *[Action("CREATE_GROUP", name) for name in NAMES] * 12,
    *[Action("JOIN_GROUP", group) for group in [*GROUPS, "", "*"]] * 6,
    *[Action("JOIN_GROUP, a known one", group) for group in GROUPS] * 10,
    *[Action("LEAVE_GROUP", group) for group in GROUPS] * 2,
    *[Action("LEAVE_GROUP, its own", group) for group in GROUPS] * 5,
    *[Action("MESSAGE_GROUP", group, "HI") for group in [*GROUPS, "", "*"]],
    *[Action("MESSAGE_GROUP, a known one", group, "HO") for group in GROUPS] * 4,
    *[Action("MESSAGE_GROUP, its own", GROUPS[0], text) for text in TEXTS] * 12,
]
REQUESTS += [action._replace(form="in a binary frame") for action in REQUESTS[::15]]
REQUESTS += [action._replace(form="in another form") for action in REQUESTS[::15]]
REQUESTS += [*map(Action, NONSENSE)] * 3
JOINS = [Action("JOIN_GROUP, a known one", group) for group in GROUPS] * 2
JOINS += [Action("CREATE_GROUP", name) for name in NAMES]

Lines = list[tuple[int, Action]]  # which client does what, in order
Stretches = Sequence[Lines]  # one by one, at once, one by one
NewPeers = Callable[[], list[Options]]  # of servers with common groups


def lines(actions: list[Action], count: int) -> st.SearchStrategy[Lines]:
    """Return a strategy that chooses `count` lines."""
    line = st.tuples(st.sampled_from(CLIENTS), st.sampled_from(actions))
    return st.lists(line, min_size=count, max_size=count)


def show(said: object) -> str:
    """Return a text or a message, shortened for a report."""
    match said:
        case {"type": str(kind), "value": value, **other} if not other:
            return f"{kind} {show(value)}"
        case {**keys}:
            return ", ".join(f"{key} {show(value)}" for key, value in keys.items())
        case str() if len(said) > 40:
            return f"{said[:9]!r}... ({len(said)} long)"
    return repr(said)


class Conversation:
    """A conversation of clients with one or more servers and with the model."""

    def __init__(self, *urls: StrOrURL) -> None:
        """Talk to the servers at `urls`, which have common groups; keep a script."""
        self.urls = urls
        self.model = Model()
        self.ids: dict[str, str] = {}  # of the server, by the model's names
        self.heard: dict[int, list[Any]] = defaultdict(list)
        self.clients: dict[int, TestWebSocket] = {}
        self.exits: dict[int, AsyncExitStack] = {}
        self.script: list[str] = []

    async def one_by_one(self, lines: Lines) -> None:
        """Do one thing at a time: each waits until the server has handled the last."""
        for n, action in lines:
            if n not in self.clients:
                await self.connect(n)
            elif action in COMING_AND_GOING and len(self.urls) > 1:
                pass  # its groups would end a moment later for the other servers
            elif action.kind == "leaves":
                await self.leave(n)
            elif action.kind == "vanishes":
                self.cut_off(n)
                await self.forget(n)
            if action not in COMING_AND_GOING:
                await self.send(n, self.plan(n, action, [*self.model.names]))
                await self.clients[n].settle()
                if len(self.urls) > 1:  # the pong says nothing about other servers
                    await self.wait_for_all()
                self.learn_ids()

    async def connect(self, n: int) -> None:
        """Connect a client, perhaps again."""
        self.script.append(f"client {n}: comes")
        self.model.connect(n)
        self.exits[n] = AsyncExitStack()
        connecting = create_socket_client(self.urls[n % len(self.urls)])
        self.clients[n] = await self.exits[n].enter_async_context(connecting)
        self.clients[n].number = n
        self.heard[n] += self.clients[n].messages
        self.clients[n].messages = self.heard[n]  # one list for all its connections

    async def leave(self, n: int) -> None:
        """Disconnect a client properly, with close frames."""
        self.script.append(f"client {n}: leaves")
        self.model.disconnect(n)
        await self.exits[n].aclose()
        del self.clients[n]

    def cut_off(self, n: int, when: str = "") -> None:
        """Cut a client off, without a close frame."""
        self.script.append(f"client {n}: vanishes{when}")
        cut_off(self.clients[n])

    async def forget(self, n: int) -> None:
        """Wait until the connection of a client that was cut off has ended."""
        self.model.disconnect(n)
        with suppress(ConnectionError):
            await self.exits[n].aclose()
        del self.clients[n]

    def plan(self, n: int, action: Action, known: list[str]) -> Action:
        """Let the model handle a request; return what `action` means at this point."""
        kind, group = action.kind, action.group
        own = [group for group in known if group in self.model.groups_of[n]]
        if kind.endswith(", its own"):
            kind = kind.partition(",")[0] if own else "JOIN_GROUP, a known one"
            group = own[GROUPS.index(group) % len(own)] if own else group
        if kind.endswith(", a known one"):
            kind = kind.partition(",")[0] if known else "CREATE_GROUP"
            group = known[GROUPS.index(group) % len(known)] if known else "A"
        if group in self.model.names and group not in known:
            group = "unknown"  # until its id has been read
        self.model.request(n, kind, group, action.text)
        return action._replace(kind=kind, group=group)

    async def send(self, n: int, action: Action, when: str = "") -> None:
        """Send a request."""
        self.script.append(f"client {n}: {action}{when}")
        frame = action.frame(self.ids.get(action.group, action.group))
        if isinstance(frame, bytes):
            await self.clients[n].send_bytes(frame)
        else:
            await self.clients[n].send_str(frame)

    def learn_ids(self) -> None:
        """Learn from the replies which id the server gave each group of the model."""
        for n in self.clients:
            created = iter([group for who, group in self.model.created if who == n])
            for reply in self.heard[n]:
                match reply:
                    case {"type": "GROUP_CREATED", "value": {"groupId": str(group_id)}}:
                        self.ids[next(created, "")] = group_id

    def understood(self, n: int) -> list[Any]:
        """Return what a client heard, with the model's names for the groups."""
        groups = {group_id: group for group, group_id in self.ids.items()}

        def rename(value: object) -> object:
            if isinstance(value, dict):
                return {key: rename(value[key]) for key in value}
            return groups.get(value, value) if isinstance(value, str) else value

        return [rename(message) for message in self.heard[n]]

    async def at_once(self, lines: Lines) -> None:
        """Let clients send all of this without waiting; the model knows what may come.

        All texts differ. All groups exist, and stay, because one client is in all of
        them. Clients that vanish send nothing, and vanish at the end.
        """
        known = [*self.model.names]
        witness, *others = CLIENTS
        for group in known:
            await self.one_by_one([(witness, Action("JOIN_GROUP", group))])
        lines = [(n, action) for n, action in lines if n in others]
        await self.one_by_one([(n, Action("comes")) for n, _ in lines])
        self.model.start_record()
        start = {n: len(self.heard[n]) for n in self.clients}
        vanishing = {n for n, action in lines if action.kind == "vanishes"}
        for i, (n, action) in enumerate(lines):
            if n not in vanishing:
                request = action._replace(text=f"{action.text} {i}")
                await self.send(n, self.plan(n, request, known), ", at once")
        for n in vanishing:
            self.cut_off(n, ", at once")
        for n in vanishing:
            await self.forget(n)
        for n in [*self.clients] * 2:  # after the first pongs, all is sent
            await self.clients[n].settle()
        self.learn_ids()
        for n, before in start.items():
            heard, model = self.understood(n)[before:], self.model.heard[n][before:]
            if n in vanishing or self.model.allows(n, heard, model):
                self.model.heard[n][before:] = heard

    async def wait_for_all(self) -> None:
        """Wait until all clients have heard as many messages as they should."""
        for n, client in self.clients.items():
            await client.wait_for_message_count(len(self.model.heard[n]))

    async def hold(self, before: Lines, at_once: Lines, after: Lines) -> None:
        """Hold a whole conversation; in the end, all clients leave."""
        if len(self.urls) > 1:  # a client on each says when broadcasts have arrived
            witnesses = CLIENTS[: len(self.urls)]
            await self.one_by_one([(n, Action("comes")) for n in witnesses])
        await self.one_by_one(before)
        await self.at_once(at_once)
        await self.one_by_one(after)
        for n in list(self.clients):
            await self.leave(n)

    async def end(self) -> None:
        """Cut all clients off, whatever the server does."""
        for n, client in self.clients.items():
            with suppress(AttributeError, OSError):  # its connection may have ended
                cut_off(client)
            with suppress(OSError, ClientError):
                await self.exits[n].aclose()

    def report(self) -> list[str]:
        """Return who heard something else than the model says, and what."""
        return [
            f"client {n} {verb}: [{', '.join(map(show, messages))}]"
            for n in CLIENTS
            if self.understood(n) != self.model.heard[n]
            for verb, messages in [
                ("should hear", self.model.heard[n]),
                ("heard", self.understood(n)),
            ]
        ]


async def find_fault(stretches: Stretches, timeout: float, peers: list[Options]) -> str:
    """Hold a conversation with fresh servers; return a report of what goes wrong.

    The report is empty if nothing does, within `timeout` seconds.
    """
    servers = []
    log = io.StringIO()
    logger = logging.Logger("server", logging.ERROR)
    logger.addHandler(logging.StreamHandler(log))
    for options in peers:
        app = web.Application()
        create_websocket_server(app, **options)
        server = TestServer(app)
        await server.start_server(shutdown_timeout=0.05, logger=logger)
        server.handler.handler_cancellation = False  # as in production
        servers.append(server)
    conversation = Conversation(*[server.make_url(PATH) for server in servers])
    problems = []
    try:
        end = "the end of the conversation"
        await bounded(conversation.hold(*stretches), end, timeout)
    except (OSError, ClientError) as error:
        problems = [str(error).splitlines()[0]]
    finally:
        await conversation.end()
        for server in servers:
            await server.close()
    problems += [*conversation.report(), *log.getvalue().splitlines()]
    title = "A conversation that goes wrong (each line waits for the one before):"
    return "\n".join([title, *conversation.script, "", *problems]) if problems else ""


async def find_shortest_fault(stretches: Stretches, new_peers: NewPeers) -> str:
    """Return the report of the shortest conversation that goes wrong, if it does.

    Leaves out lines, many at a time and then fewer, while the rest still goes wrong,
    for at most 5 seconds. This takes some forty attempts; Hypothesis, which does not
    know about lines, would take over a thousand.
    """
    fault = await find_fault(stretches, 3, new_peers())
    deadline = time.monotonic() + 5
    for part, size in product((2, 1, 0), (32, 16, 8, 4, 2, 1, 1)):
        for end in range(len(stretches[part]), 0, -size):
            if not fault or time.monotonic() > deadline:
                return fault
            shorter = [*stretches]
            shorter[part] = stretches[part][: max(0, end - size)]
            shorter[part] += stretches[part][end:]
            if found := await find_fault(shorter, 0.5, new_peers()):
                fault, stretches = found, shorter
    return fault


def check(new_peers: NewPeers, *stretches: st.SearchStrategy[Lines]) -> None:
    """Fail with a conversation that goes wrong, if Hypothesis finds one.

    Each conversation has its own event loop, so this runs in a thread.
    """
    fault = ""

    @settings(
        max_examples=10,  # with more, Hypothesis mostly repeats parts of earlier ones
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        phases=[Phase.generate],
    )
    @given(st.tuples(*stretches))
    def hold_ten(stretches: Stretches) -> None:
        nonlocal fault
        fault = fault or asyncio.run(find_shortest_fault(stretches, new_peers))
        assert not fault

    for number in range(int(os.environ.get("CONVERSATIONS", "50")) // 10):
        try:
            seed(number)(hold_ten)()
        except AssertionError:
            if not fault:
                raise
            raise pytest.fail.Exception(fault, pytrace=False) from None


async def test_requests_one_by_one(no_server_errors: None, new_peers: NewPeers) -> None:
    actions = COMING_AND_GOING + REQUESTS
    no_lines = st.just(Lines())
    stretches = lines(actions, 60), no_lines, lines(REQUESTS, 3)
    await asyncio.to_thread(check, new_peers, *stretches)


async def test_requests_at_once(no_server_errors: None, unlimited: Options) -> None:
    actions = [Action("vanishes")] * 15 + REQUESTS
    stretches = lines(JOINS, 10), lines(actions, 25), lines(REQUESTS, 3)
    await asyncio.to_thread(check, lambda: [unlimited], *stretches)
