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
    BaseConnector,
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

__tracebackhide__ = True  # pytest's reports show the test, not this file
# The limit of a wait, in seconds. Most take milliseconds; slow machines set more.
TIMEOUT = float(os.environ.get("TIMEOUT") or "1")
SETTLE = b"settle "  # begins the pings of settle(): a test may send its own
Result = TypeVar("Result")


class SocketState(Enum):
    """The states of a connection; their values say whether it has ended."""

    OPEN = False
    CLOSED = True


open_clients: list["TestWebSocket"] = []


def compute_port() -> int:
    """Return the port of this folder's tests: `BASE_PORT + 100 * worker + step`.

    `BASE_PORT` comes from the environment (3000 by default), `worker` from
    pytest-xdist (0 without it), `step` from the folder's name (99 if it has none).
    The article's `3000 + Number(process.env.JEST_WORKER_ID)`.
    """
    base_port = os.environ.get("BASE_PORT") or "3000"
    if not base_port.isdecimal():
        pytest.fail(f"BASE_PORT is not a number: {base_port!r}", pytrace=False)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    return int(base_port) + 100 * worker + (int(step[1]) if step else 99)


async def start_server(
    aiohttp_server: AiohttpServer, app: web.Application, port: int, **options: Any
) -> TestServer:
    """Start `app` on `port` and return its server; pytest-aiohttp stops it.

    `options` go to `aiohttp_server`. If the port is not available, the test fails with
    one line. The article's `startServer`.
    """
    # A server that stops waits for its clients: by default, up to 2 x 60 seconds.
    options = {"shutdown_timeout": 0.3 * TIMEOUT, **options}
    try:
        server = await aiohttp_server(app, port=port, **options)
    except (OSError, OverflowError) as error:
        # A port above 65535 raises OverflowError, which has no errno.
        if getattr(error, "errno", EADDRINUSE) not in (EACCES, EADDRINUSE):
            raise
        with catch_warnings(action="ignore"):  # aiohttp leaves its socket open
            error.__traceback__ = None
            gc.collect()
        problem = f"no server on port {port} (BASE_PORT sets another): {error}"
        raise pytest.fail.Exception(problem, pytrace=False) from None
    # TestServer cancels a handler when its client leaves; run_app() lets it finish.
    server.handler.handler_cancellation = False
    return server


async def bounded(
    awaitable: Awaitable[Result], what: str, timeout: float = TIMEOUT
) -> Result:
    """Return the result of `awaitable`, if it comes within `timeout` seconds.

    Otherwise raises a `TimeoutError` that says `what` it waited for.
    """
    try:
        async with asyncio.timeout(timeout) as limit:
            return await awaitable
    except TimeoutError:
        if not limit.expired():  # an inner one, not this limit
            raise
        raise TimeoutError(f"waited {timeout:g} s for {what}") from None


class TestWebSocket(ClientWebSocketResponse):
    """A client's connection, and the record of what the server has sent.

    Each wait returns as soon as its event has happened. It raises `ConnectionError` if
    the connection ends first, and `TimeoutError` after `timeout` seconds; both say what
    it waited for, how the connection ended, and what has arrived.
    `TestWebSocket` of the article's second edition.
    """

    __test__ = False  # or pytest collects it, for its name

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take the arguments with which `ClientSession` makes a connection."""
        super().__init__(*args, **options)
        self.number = 0  # in reports
        self.messages: list[Any] = []
        self.ending = ""  # how the connection ended, in words
        self.end_code = 0  # the server's close code; 1005 and 1006 as in RFC 6455
        self.may_end = False  # whether the test expects this end
        self.has_sent = False  # a message
        self.close_sent = 0  # the code of the client's close frame
        self.pings = self.pongs = 0
        self.changed = asyncio.Condition()
        self.listener: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        """Return the client's state and record, for reports."""
        count, last = len(self.messages), reprlib.repr(self.messages[-6:])
        received = f"had received {count}{', the last' if count > 6 else ''}: {last}"
        return f"client {self.number}: {self.ending or 'connected'}; {received}"

    def clear_messages(self) -> None:
        """Forget all messages so far; later waits do not count them."""
        self.messages.clear()

    async def settle(self, timeout: float = TIMEOUT) -> None:
        """Wait until the server has handled everything that this client has sent.

        Sends a ping. aiohttp's server answers it when its handler asks for the next
        message, so the pong means that all messages before it have been handled. After
        a close frame no ping may follow: then this waits for the server's close frame.
        Returns at once if the connection has ended, or the test has paused it.
        """
        if self.ending or self.is_paused():
            return
        if self.close_sent:
            what = "the server's close frame"
            await self.wait_for(lambda: bool(self.ending), what, timeout)
            return
        self.pings = number = self.pings + 1
        with suppress(ConnectionError):  # the connection has ended
            ping = self.ping(SETTLE + str(number).encode())
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
        """Wait until there are at least `count` messages."""
        what = f"{count} message(s)"
        await self.wait_for(lambda: len(self.messages) >= count, what, timeout)

    async def wait_for_close(
        self, code: int = WSCloseCode.OK, timeout: float = TIMEOUT
    ) -> None:
        """Wait until the server closes the connection with `code`, as the test expects.

        1005 means a close frame without a code, 1006 no close frame at all.
        """
        what = f"the server to close with code {code}"
        await self.wait_for(lambda: self.end_code == code, what, timeout)
        self.may_end = True

    async def wait_for(
        self, has_happened: Callable[[], bool], what: str, timeout: float
    ) -> None:
        """Wait until `what` has happened; all waits above go through here."""
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
        self.begin_to_send()
        with suppress(ConnectionError):  # the next wait says how it ended
            await bounded(super().send_str(data, compress), "the server to read")

    async def send_bytes(self, data: bytes, compress: int | None = None) -> None:
        """Send a binary frame."""
        self.begin_to_send()
        with suppress(ConnectionError):
            await bounded(super().send_bytes(data, compress), "the server to read")

    def begin_to_send(self) -> None:
        """Note that the client speaks; raise `RuntimeError` after its close frame."""
        if self.close_sent:
            problem = "the test sends a message after the close frame"
            raise RuntimeError(f"{problem} (RFC 6455, 5.5.1)\n{self}")
        self.has_sent = True

    async def receive(self, *_args: object, **_options: object) -> NoReturn:
        """Raise `RuntimeError`: this client's own task receives the messages."""
        raise RuntimeError(
            "this client listens by itself: use messages, or wait_for_message()"
        )

    async def send_close(self, code: int = WSCloseCode.OK, reason: bytes = b"") -> None:
        """Send a close frame, once."""
        if not (self.close_sent or self.ending):
            self.close_sent = code
            payload = code.to_bytes(2, "big") + reason
            with suppress(ConnectionError):
                await self.send_frame(payload, WSMsgType.CLOSE)

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"") -> bool:
        """Send a close frame, and record until the server's close frame."""
        if asyncio.current_task() is self.listener:  # aiohttp itself closes
            return await super().close(code=code, message=message)
        what = "the server's close frame"
        await bounded(self.send_close(code, message), what)
        await self.wait_for(lambda: bool(self.ending), what, TIMEOUT)
        return True

    def is_paused(self) -> bool:
        """Tell whether the test has paused the transport."""
        protocol = self._conn and self._conn.protocol
        if protocol is None or protocol.transport is None:
            return False
        paused_by_aiohttp = protocol._reading_paused  # until the listener has caught up
        return not (protocol.transport.is_reading() or paused_by_aiohttp)

    def check_ending(self) -> None:
        """Raise `ConnectionError` unless the connection has ended as expected."""
        if not self.may_end:
            raise ConnectionError(str(self))

    async def listen(self, decode: Callable[[Any], Any], autoping: bool) -> None:
        """Record messages until the connection ends, and then how it ended."""
        while not self.ending:
            try:
                frame = await super().receive()
            except TimeoutError:
                frame = WSMessage(WSMsgType.ERROR, "its own receive time-out", None)
            match frame.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    self.record(frame.data, decode)
                case WSMsgType.PING:
                    if autoping:
                        with suppress(ConnectionError):
                            await self.pong(frame.data)
                case WSMsgType.PONG:
                    if frame.data.startswith(SETTLE):
                        self.pongs = int(frame.data.removeprefix(SETTLE))
                case _:
                    self.record_end(frame)
            async with self.changed:
                self.changed.notify_all()

    def record(self, data: str | bytes, decode: Callable[[Any], Any]) -> None:
        """Record a message; if it cannot be decoded, it is the last one."""
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
    url: StrOrURL,
    *,
    decode: Callable[[Any], Any] = lambda data: data,
    connector: BaseConnector | None = None,
    **options: Any,
) -> AsyncIterator[TestWebSocket]:
    """Connect a client; yield it once the server is reading from it.

    `decode` turns the text or bytes of a frame into a message (such as `json.loads`);
    `connector` is how the session connects, if not by TCP; `options` go to
    `ClientSession.ws_connect()`.
    When the `async with` block ends, all open clients settle; then this client sends a
    close frame, and records until the server's close frame. After the block, `messages`
    holds everything that the server sent before that.
    Raises `TimeoutError` if the server does not open the connection, answer a ping or
    close the connection in time; `ConnectionError` if it closes first (unless the test
    expects it, with `wait_for_close()`), without a close frame, or with a code other
    than 1000. The article's `createSocketClient`.
    """
    async with ClientSession(
        connector=connector, ws_response_class=TestWebSocket
    ) as session:
        answers_pings = options.pop("autoping", True)
        connecting = session.ws_connect(url, autoping=False, **options)
        try:
            client = await bounded(connecting, "the server to open the connection")
        except ClientError as error:
            raise error.with_traceback(None) from None  # hide aiohttp's frames
        assert isinstance(client, TestWebSocket)
        numbers = [other.number for other in open_clients]
        client.number = max(numbers, default=0) + 1
        client.listener = asyncio.create_task(client.listen(decode, answers_pings))
        open_clients.append(client)
        try:
            try:
                await client.settle()
            except TimeoutError:
                if not client.messages:  # otherwise it sends before it reads
                    raise
            yield client
            # A server may never read from a client that only listens: no pong comes.
            settling = [it.settle() for it in open_clients if it.pongs or it.has_sent]
            await asyncio.gather(*settling)
            await client.close()
            client.check_ending()
        except BaseException as error:  # also what pytest.fail() raises
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
