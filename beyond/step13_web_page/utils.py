"""Utilities for the tests of a WebSocket server."""

import asyncio
import json
import os
import re
import reprlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import Enum
from errno import EACCES, EADDRINUSE
from pathlib import Path
from traceback import clear_frames
from typing import Any, TypeVar
from warnings import catch_warnings

import pytest
from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
    WSCloseCode,
    WSMsgType,
    web,
)
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .broker import Broker
from .server import Limits, create_websocket_server

__tracebackhide__ = True  # in pytest's reports, whose subject is the test
TIMEOUT = 1  # second
LIMITS = Limits(message_size=2**20)  # bytes: room for the long texts of the tests
Result = TypeVar("Result")
open_clients: list[int] = []  # the numbers by which a report tells them apart


class SocketState(Enum):
    """The states to wait for, each with what `socket.closed` says in it."""

    OPEN = False
    CLOSED = True


def compute_port() -> int:
    """Return a port of this folder's own: `BASE_PORT + 100 * worker + step`.

    `BASE_PORT` comes from the environment (3000 by default), `worker` from
    pytest-xdist (0 without it), `step` from the folder's name (0 if it has none).
    The article's `3000 + Number(process.env.JEST_WORKER_ID)`.
    """
    base_port = int(os.environ.get("BASE_PORT") or "3000")
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    return base_port + 100 * worker + (int(step[1]) if step else 0)


@contextmanager
def explain_busy_port(port: int) -> Iterator[None]:
    """Fail the test in one line when its server cannot listen on `port`."""
    try:
        yield
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno not in (EACCES, EADDRINUSE):
            raise
        with catch_warnings(action="ignore"):  # aiohttp leaves its socket open
            clear_frames(error.__traceback__)
        problem = f"no server on port {port} (BASE_PORT sets another): {error}"
        raise pytest.fail.Exception(problem, pytrace=False) from None


async def start_server(
    aiohttp_server: AiohttpServer,
    port: int,
    limits: Limits = LIMITS,
    broker: Broker | None = None,
) -> TestServer:
    """Start a server on `port` and return it; pytest-aiohttp stops it after the test.

    The article's `startServer`.
    """
    app = web.Application()
    create_websocket_server(app, limits, broker)
    with explain_busy_port(port):
        # A server that stops waits for its clients, by default for 2 x 60 seconds.
        return await aiohttp_server(
            app,
            port=port,
            shutdown_timeout=0.1,
            keepalive_timeout=limits.heartbeat,
        )


async def bounded(
    awaitable: Awaitable[Result], what: str, timeout: float = TIMEOUT
) -> Result:
    """Return the result of `awaitable`: the one way to wait here.

    Raises `TimeoutError`, which says `what` was waited for, after `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            return await awaitable
    except TimeoutError:
        raise TimeoutError(f"waited {timeout} s for {what}") from None


def decode(frame: str | bytes) -> object:
    """Return the value of the JSON text in `frame`; what is none stays as it is."""
    with suppress(ValueError):
        return json.loads(frame) if isinstance(frame, str) else frame
    return frame


class TestWebSocket(ClientWebSocketResponse):
    """A client's connection, and the record of what the server sent over it.

    All its waits end with the event, or else raise `ConnectionError` as soon as the
    connection has ended, `TimeoutError` after `timeout` seconds: both say what was
    waited for, and what came.
    The second edition's `TestWebSocket`.
    """

    __test__ = False  # for pytest, which takes it for tests
    name = "client"

    def __init__(self, *args: Any, **options: Any) -> None:
        """Start to listen on a connection that `ClientSession` has opened."""
        super().__init__(*args, **options)
        self.messages: list[Any] = []
        self.close_sent = False
        self.changed = asyncio.Condition()
        self.listener = asyncio.create_task(self.listen())

    def __str__(self) -> str:
        """Return what a report says about this client."""
        received = f"had received {len(self.messages)}: {reprlib.repr(self.messages)}"
        return f"{self.name}, close code {self.close_code}, {received}"

    def clear_messages(self) -> None:
        """Forget the messages so far: later waits do not count them."""
        self.messages.clear()

    async def wait_until(self, state: SocketState, timeout: float = TIMEOUT) -> None:
        """Wait until the connection is in `state`."""
        what = f"the socket to be {state.name}"
        await self.wait_for(lambda: self.closed is state.value, what, timeout)

    async def wait_for_message(self, message: object, timeout: float = TIMEOUT) -> None:
        """Wait until `message` is among the messages."""
        what = f"the message {reprlib.repr(message)}"
        await self.wait_for(lambda: message in self.messages, what, timeout)

    async def wait_for_message_count(
        self, count: int, timeout: float = TIMEOUT
    ) -> None:
        """Wait until there are `count` messages, or more."""
        what = f"{count} message(s)"
        await self.wait_for(lambda: len(self.messages) >= count, what, timeout)

    async def wait_for(
        self, has_happened: Callable[[], bool], what: str, timeout: float
    ) -> None:
        """Wait until something, `what`, has happened: the way of the waits above."""
        async with self.changed:
            event = self.changed.wait_for(lambda: has_happened() or self.closed)
            try:
                await bounded(event, what, timeout)
            except TimeoutError as error:
                raise TimeoutError(f"{error}\n{self}") from None
        if not has_happened():
            raise ConnectionError(f"the connection closed before {what}\n{self}")

    async def send_str(self, data: str, compress: int | None = None) -> None:
        """Send a text frame, if it may be sent."""
        self.check_close_not_sent()
        await super().send_str(data, compress)

    async def send_bytes(self, data: bytes, compress: int | None = None) -> None:
        """Send a binary frame, if it may be sent."""
        self.check_close_not_sent()
        await super().send_bytes(data, compress)

    def check_close_not_sent(self) -> None:
        """Raise `RuntimeError` when nothing may be sent any more."""
        if self.close_sent:
            problem = "the test sends a message after the close frame"
            raise RuntimeError(f"{problem} (RFC 6455, 5.5.1)\n{self}")

    async def send_close(self) -> None:
        """Send a close frame, the first time; `client.close()` would lose messages."""
        if not self.close_sent:
            self.close_sent = True
            with suppress(ConnectionError):  # listen() reports what became of it
                code = WSCloseCode.OK.to_bytes(2, "big")
                await self.send_frame(code, WSMsgType.CLOSE)

    async def listen(self) -> None:
        """Record messages until the server's close frame.

        Raises `ConnectionError` when none comes, when it comes before the client has
        sent its own, or when its code is not 1000.
        """
        frame = await self.receive()
        while frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self.messages.append(decode(frame.data))
            await self.notify()
            frame = await self.receive()
        await self.notify()
        when = f"{'after' if self.close_sent else 'before'} the client's close frame"
        if frame.type is not WSMsgType.CLOSE:
            reason = frame.data or "no close frame"
            raise ConnectionError(f"the connection ended {when}: {reason}")
        if frame.data != WSCloseCode.OK or not self.close_sent:
            raise ConnectionError(f"the server closed {when}, with code {frame.data}")

    async def notify(self) -> None:
        """Let all that wait have another look."""
        async with self.changed:
            self.changed.notify_all()


@asynccontextmanager
async def create_socket_client(port: int) -> AsyncIterator[TestWebSocket]:
    """Connect a client, and yield it.

    It sends a close frame when the `async with` block ends, if it has not been sent
    before, and records until the server's close frame: after the block, `messages`
    holds all that the server sent before that.
    Raises `TimeoutError` when the server does not open the connection, or close it,
    within 1 second, `ConnectionError` when it closes it before the client has sent
    its close frame, without one of its own, or with another code than 1000.
    The article's `createSocketClient`.
    """
    async with ClientSession(ws_response_class=TestWebSocket) as session:
        connecting = session.ws_connect(f"ws://127.0.0.1:{port}/ws")
        client = await bounded(connecting, "the server to open the connection")
        assert isinstance(client, TestWebSocket)
        number = max(open_clients, default=0) + 1
        open_clients.append(number)
        client.name = f"client {number}"
        try:
            yield client
            closing = asyncio.gather(client.send_close(), client.listener)
            await bounded(closing, "the server's close frame")
        except BaseException as error:  # pytest.fail() is no Exception
            if str(client) not in str(error):
                error.add_note(str(client))
            raise
        finally:
            open_clients.remove(number)
            client.listener.cancel()
            await asyncio.gather(client.listener, return_exceptions=True)
            with suppress(TimeoutError):
                await bounded(client.close(), "the connection to end")
