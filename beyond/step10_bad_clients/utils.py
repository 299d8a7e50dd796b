"""Utilities for the tests of a WebSocket server."""

import asyncio
import gc
import os
import re
import reprlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum
from errno import EACCES, EADDRINUSE
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from warnings import catch_warnings

import pytest
from aiohttp import (
    ClientError,
    ClientSession,
    ClientWebSocketResponse,
    WSCloseCode,
    WSMessage,
    WSMsgType,
    web,
)
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import StrOrURL
from pytest_aiohttp import AiohttpServer

__tracebackhide__ = True  # in pytest's reports, whose subject is the test
# Seconds that anything may take: it takes milliseconds here. Slow machines set more.
TIMEOUT = float(os.environ.get("TIMEOUT") or "1")
Result = TypeVar("Result")


class SocketState(Enum):
    """The states to wait for, each with whether the connection has ended in it."""

    OPEN = False
    CLOSED = True


open_clients: list["TestWebSocket"] = []


def compute_port() -> int:
    """Return a port of this folder's own: `BASE_PORT + 100 * worker + step`.

    `BASE_PORT` comes from the environment (3000 by default), `worker` from
    pytest-xdist (0 without it), `step` from the folder's name (0 if it has none).
    The article's `3000 + Number(process.env.JEST_WORKER_ID)`.
    """
    base_port = os.environ.get("BASE_PORT") or "3000"
    if not base_port.isdecimal():
        pytest.fail(f"BASE_PORT is not a number: {base_port!r}", pytrace=False)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    return int(base_port) + 100 * worker + (int(step[1]) if step else 0)


async def start_server(
    aiohttp_server: AiohttpServer, app: web.Application, port: int, **options: Any
) -> TestServer:
    """Start `app` on `port` and return its server; pytest-aiohttp stops it.

    `options` are those of `aiohttp_server`. A port that cannot be had fails the test in
    one line. The article's `startServer`.
    """
    # A server that stops waits for its clients, by default for 2 x 60 seconds.
    options = {"shutdown_timeout": 0.3 * TIMEOUT, **options}
    try:
        server = await aiohttp_server(app, port=port, **options)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", EADDRINUSE) not in (EACCES, EADDRINUSE):
            raise
        with catch_warnings(action="ignore"):  # aiohttp leaves its socket open
            error.__traceback__ = None
            gc.collect()
        problem = f"no server on port {port} (BASE_PORT sets another): {error}"
        raise pytest.fail.Exception(problem, pytrace=False) from None
    # TestServer cancels the handler of a client that leaves; run_app() lets it finish.
    server.handler.handler_cancellation = False
    return server


async def bounded(
    awaitable: Awaitable[Result], what: str, timeout: float = TIMEOUT
) -> Result:
    """Return the result of `awaitable`: the one way to wait here.

    Raises `TimeoutError`, which says `what` was waited for, after `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout) as limit:
            return await awaitable
    except TimeoutError:
        if not limit.expired():  # then it is the awaitable's own
            raise
        raise TimeoutError(f"waited {timeout:g} s for {what}") from None


class TestWebSocket(ClientWebSocketResponse):
    """A client's connection, and the record of what the server sent over it.

    All its waits end with the event, or else raise `ConnectionError` as soon as the
    connection has ended, `TimeoutError` after `timeout` seconds: both say what was
    waited for, how the connection ended, and what came.
    The second edition's `TestWebSocket`.
    """

    __test__ = False  # for pytest, which takes it for tests

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take what `ClientSession` makes a connection of."""
        super().__init__(*args, **options)
        self.number = 0  # in reports
        self.messages: list[Any] = []
        self.ending = ""  # how the connection ended, in words
        self.end_code = 0  # the server's close code; 1005 and 1006 as in RFC 6455
        self.may_end = False  # so: as an answer, or as the test has waited for it
        self.close_sent = 0  # the code of the client's close frame
        self.pings = self.pongs = 0
        self.changed = asyncio.Condition()
        self.listener: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        """Return what a report says about this client."""
        received = f"had received {len(self.messages)}: {reprlib.repr(self.messages)}"
        return f"client {self.number}: {self.ending or 'connected'}; {received}"

    def clear_messages(self) -> None:
        """Forget the messages so far: later waits do not count them."""
        self.messages.clear()

    async def settle(self, timeout: float = TIMEOUT) -> None:
        """Wait until the server has dealt with all that this client has sent.

        It sends a ping: a server that answers pings where it answers messages, in
        order, as aiohttp's does, has dealt with them when its pong comes.
        After a close frame no ping may follow: then it waits for the server's.
        A client that has gone, or was told not to read, is not waited for.
        """
        if self.ending or self.is_paused():
            return
        if self.close_sent:
            what = "the server's close frame"
            await self.wait_for(lambda: bool(self.ending), what, timeout)
            return
        self.pings = number = self.pings + 1
        with suppress(ConnectionError):  # it is gone, then
            ping = self.ping(str(number).encode())
            await bounded(ping, "the server to read a ping", timeout)
        await self.wait_for(
            lambda: self.pongs >= number or bool(self.ending),
            "the server to answer a ping",
            timeout,
        )

    async def wait_until(self, state: SocketState, timeout: float = TIMEOUT) -> None:
        """Wait until the connection is in `state`."""
        what = f"the connection to be {state.name}"
        await self.wait_for(lambda: bool(self.ending) is state.value, what, timeout)

    async def wait_for_message(self, message: object, timeout: float = TIMEOUT) -> None:
        """Wait until a message equals `message`."""
        what = f"the message {reprlib.repr(message)}"
        await self.wait_for(lambda: message in self.messages, what, timeout)

    async def wait_for_message_count(
        self, count: int, timeout: float = TIMEOUT
    ) -> None:
        """Wait until there are `count` messages, or more."""
        what = f"{count} message(s)"
        await self.wait_for(lambda: len(self.messages) >= count, what, timeout)

    async def wait_for_close(
        self, code: int = WSCloseCode.OK, timeout: float = TIMEOUT
    ) -> None:
        """Wait until the server closes the connection with `code`, as it ought to here.

        1005 stands for a close frame without a code, 1006 for no close frame at all.
        """
        what = f"the server to close with code {code}"
        await self.wait_for(lambda: self.end_code == code, what, timeout)
        self.may_end = True

    async def wait_for(
        self, has_happened: Callable[[], bool], what: str, timeout: float
    ) -> None:
        """Wait until something, `what`, has happened: the way of the waits above."""
        async with self.changed:
            event = self.changed.wait_for(lambda: has_happened() or self.ending)
            try:
                await bounded(event, what, timeout)
            except TimeoutError as error:
                raise TimeoutError(f"{error}\n{self}") from None
        if not has_happened():
            raise ConnectionError(f"waited for {what}\n{self}")

    async def send_str(self, data: str, compress: int | None = None) -> None:
        """Send a text frame."""
        self.check_close_not_sent()
        with suppress(ConnectionError):  # the next wait says how the connection ended
            await bounded(super().send_str(data, compress), "the server to read")

    async def send_bytes(self, data: bytes, compress: int | None = None) -> None:
        """Send a binary frame."""
        self.check_close_not_sent()
        with suppress(ConnectionError):
            await bounded(super().send_bytes(data, compress), "the server to read")

    def check_close_not_sent(self) -> None:
        """Raise `RuntimeError` when nothing may be sent any more."""
        if self.close_sent:
            problem = "the test sends a message after the close frame"
            raise RuntimeError(f"{problem} (RFC 6455, 5.5.1)\n{self}")

    async def receive(self, *_args: object, **_options: object) -> NoReturn:
        """Raise `RuntimeError`: this client listens by itself."""
        raise RuntimeError(
            "this client listens by itself: use messages, or wait_for_message()"
        )

    async def send_close(self, code: int = WSCloseCode.OK, reason: bytes = b"") -> None:
        """Send a close frame, the first time."""
        if not (self.close_sent or self.ending):
            self.close_sent = code
            with suppress(ConnectionError):
                await self.send_frame(code.to_bytes(2, "big") + reason, WSMsgType.CLOSE)

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"") -> bool:
        """Send a close frame, and record until the server's."""
        if asyncio.current_task() is self.listener:  # it is aiohttp that closes
            return await super().close(code=code, message=message)
        what = "the server's close frame"
        await bounded(self.send_close(code, message), what)
        await self.wait_for(lambda: bool(self.ending), what, TIMEOUT)
        return True

    def is_paused(self) -> bool:
        """Tell whether the test has paused the transport, for reasons of its own."""
        protocol = self._conn and self._conn.protocol
        if protocol is None or protocol.transport is None:
            return False
        paused_by_aiohttp = protocol._reading_paused  # while the listener catches up
        return not (protocol.transport.is_reading() or paused_by_aiohttp)

    def check_ending(self) -> None:
        """Raise `ConnectionError` unless the connection has ended as it ought to."""
        if not self.may_end:
            raise ConnectionError(str(self))

    async def listen(self, decode: Callable[[Any], Any], autoping: bool) -> None:
        """Record messages until the connection ends, and then how it did."""
        while not self.ending:
            frame = await super().receive()
            match frame.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    self.record(frame.data, decode)
                case WSMsgType.PING:
                    if autoping:
                        with suppress(ConnectionError):
                            await self.pong(frame.data)
                case WSMsgType.PONG:
                    if frame.data.isdigit():  # or it answers a ping of the test's
                        self.pongs = int(frame.data)
                case _:
                    self.record_end(frame)
            async with self.changed:
                self.changed.notify_all()

    def record(self, data: str | bytes, decode: Callable[[Any], Any]) -> None:
        """Record a message; one that cannot be decoded is the last."""
        self.messages.append(data)
        try:
            self.messages[-1] = decode(data)
        except Exception as error:
            self.ending = f"its last message cannot be decoded: {error!r}"

    def record_end(self, frame: WSMessage) -> None:
        """Record how the connection ended."""
        when = f"{'after' if self.close_sent else 'before'} the client's close frame"
        if frame.type is WSMsgType.CLOSE:
            self.end_code = frame.data or 1005
            self.may_end = bool(self.close_sent) and frame.data in (
                WSCloseCode.OK,
                self.close_sent,
            )
            code = f"code {frame.data}" if frame.data else "no code"
            reason = f" and reason {frame.extra!r}" if frame.extra else ""
            self.ending = f"the server closed {when}, with {code}{reason}"
        else:
            self.end_code = WSCloseCode.ABNORMAL_CLOSURE
            reason = frame.data or "no close frame"
            self.ending = f"the connection ended {when}: {reason}"


@asynccontextmanager
async def create_socket_client(
    url: StrOrURL, *, decode: Callable[[Any], Any] = lambda data: data, **options: Any
) -> AsyncIterator[TestWebSocket]:
    """Connect a client, and yield it when the server listens to it.

    `decode` makes a message of the text or bytes of a frame, such as `json.loads`;
    `options` go to `ClientSession.ws_connect()`.
    When the `async with` block ends, every client that is open settles; then this one
    sends a close frame, and records until the server's: after the block, `messages`
    holds all that the server sent before that.
    Raises `TimeoutError` when the server does not open the connection, answer a ping or
    close it within 1 second, `ConnectionError` when it closes it before the client has
    sent its close frame (unless the test has used `wait_for_close()`), without one of
    its own, or with another code than 1000.
    The article's `createSocketClient`.
    """
    async with ClientSession(ws_response_class=TestWebSocket) as session:
        answers_pings = options.pop("autoping", True)
        connecting = session.ws_connect(url, autoping=False, **options)
        try:
            client = await bounded(connecting, "the server to open the connection")
        except ClientError as error:
            raise error.with_traceback(None) from None  # without a page of aiohttp's
        assert isinstance(client, TestWebSocket)
        numbers = [other.number for other in open_clients]
        client.number = max(numbers, default=0) + 1
        client.listener = asyncio.create_task(client.listen(decode, answers_pings))
        open_clients.append(client)
        try:
            await client.settle()
            yield client
            await asyncio.gather(*[other.settle() for other in open_clients])
            await client.close()
            client.check_ending()
        except BaseException as error:  # pytest.fail() is no Exception
            if str(client) not in str(error):
                error.add_note(str(client))
            raise
        finally:
            open_clients.remove(client)
            client.listener.cancel()
            await asyncio.gather(client.listener, return_exceptions=True)
            with suppress(TimeoutError):
                disconnecting = ClientWebSocketResponse.close(client)
                await bounded(disconnecting, "the connection to end", 0.1)
