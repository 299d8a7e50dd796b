"""Utilities for the tests of a WebSocket server."""

import asyncio
import os
import re
import reprlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path
from socket import fromfd
from typing import Any, NoReturn, TypeVar

import aiohttp
from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, WSMsgType, web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import StrOrURL
from pytest_aiohttp import AiohttpServer

__tracebackhide__ = True  # pytest's reports show the test, not this file
vars(aiohttp.client_ws)["__tracebackhide__"] = True  # nor what it calls
# The limit of a wait, in seconds. Most take milliseconds; slow machines set more.
TIMEOUT = float(os.environ.get("TIMEOUT") or "1")
Result = TypeVar("Result")
Decode = Callable[[Any], Any] | None


class SocketState(Enum):
    """The states of a connection; their values say whether it has ended."""

    OPEN = False
    CLOSED = True


open_clients: list["TestWebSocket"] = []
openings: set[asyncio.Future[None]] = set()  # of clients that are still connecting


def compute_port() -> int:
    """Return the port of this folder's tests: `BASE_PORT + 100 * worker + step`.

    `BASE_PORT` is 3000 by default, `worker` pytest-xdist's, `step` in the folder's name
    (or 99). The article's `3000 + Number(process.env.JEST_WORKER_ID)`.
    """
    base_port = int(os.environ.get("BASE_PORT") or "3000")
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    return base_port + 100 * worker + (int(step[1]) if step else 99)


async def start_server(
    aiohttp_server: AiohttpServer, app: web.Application, port: int, **options: Any
) -> TestServer:
    """Start `app` on `port` and return its server; pytest-aiohttp stops it.

    `options` go to `aiohttp_server`. The article's `startServer`.
    """
    # A server that stops waits for its clients: by default, up to 2 x 60 seconds.
    options = {"shutdown_timeout": 0.3 * TIMEOUT, **options}
    server = await aiohttp_server(app, port=port, **options)
    # TestServer cancels a handler when its client leaves; run_app() lets it finish.
    server.handler.handler_cancellation = False
    # Of more than 128 clients that connect at once, some would wait for a second.
    runner: Any = server.runner  # aiohttp has no public name for its socket
    [listening] = [it for site in runner.sites for it in site._server.sockets]
    with fromfd(listening.fileno(), listening.family, listening.type) as duplicate:
        duplicate.listen(1000)
    return server


async def bounded(
    awaitable: Awaitable[Result], what: str, timeout: float = TIMEOUT, who: object = ""
) -> Result:
    """Return the result of `awaitable`; if it is late, raise what says so."""
    try:
        async with asyncio.timeout(timeout) as limit:
            return await awaitable
    except ClientError as error:
        raise error.with_traceback(None) from None  # hide aiohttp's frames
    except TimeoutError:
        if not limit.expired():  # an inner one, not this limit
            raise
        raise TimeoutError(f"waited {timeout:g} s for {what}\n{who}".strip()) from None


class TestWebSocket(ClientWebSocketResponse):
    """A client's connection, and the record of what the server has sent.

    A wait returns as soon as its event has happened. It raises `ConnectionError` if the
    connection ends first, `TimeoutError` after `timeout` seconds; both say what it
    waited for, and what has arrived. `TestWebSocket` of the article's second edition.
    """

    __test__ = False  # or pytest collects it, for its name

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take the arguments with which `ClientSession` makes a connection."""
        super().__init__(*args, **options)
        self.number: int = 1 + max((it.number for it in open_clients), default=0)
        self.messages: list[Any] = []
        self.ending = ""  # how the connection ended, in words
        self.end_code = 0  # the server's close code; 1005 and 1006 as in RFC 6455
        self.expected_codes: set[int] = set()
        self.close_sent = False
        self.sent = 0  # grows when a frame is sent, before and after
        self.settled = 0  # what `sent` was when the server had handled everything
        self.pings: dict[bytes, int] = {}  # those not answered: what `sent` was
        self.barrier = asyncio.Lock()
        self.changed = asyncio.Condition()
        self.listener: asyncio.Task[None] | None = None
        self.write = self._writer.send_frame
        vars(self._writer)["send_frame"] = self.deliver

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
        Returns at once if the test has paused the transport, or if the connection has
        ended: the handler of a client that has gone may still be at work.
        """
        if self not in open_clients:
            problem = "settle() works only inside the block of create_socket_client()"
            raise RuntimeError(f"{problem}\n{self}")
        transport, protocol = self._writer.transport, self._writer.protocol
        is_paused = not (transport.is_reading() or transport.is_closing())
        if self.ending or (is_paused and not protocol._reading_paused):  # by aiohttp
            return
        ping, what = os.urandom(8), "the server's close frame"
        self.pings[ping] = self.sent
        if not self.close_sent:
            what = "the server to answer a ping"
            await self.ping(ping)
        await self.wait_for(
            lambda: ping not in self.pings or self.ending, what, timeout
        )

    async def wait_until(self, state: SocketState, timeout: float = TIMEOUT) -> None:
        """Wait until the connection is in `state`."""
        what = f"the connection to be {state.name}"
        await self.wait_for(lambda: bool(self.ending) is state.value, what, timeout)

    async def wait_for_message(
        self, message: object, timeout: float = TIMEOUT, *, count: int = 1
    ) -> None:
        """Wait until `count` messages equal `message`."""
        what = f"the message {reprlib.repr(message)}{f', {count} times' * (count > 1)}"
        count_now = self.messages.count
        await self.wait_for(lambda: count_now(message) >= count, what, timeout)

    async def wait_for_message_count(
        self, count: int, timeout: float = TIMEOUT
    ) -> None:
        """Wait until there are at least `count` messages."""
        what = f"{count} message(s)"
        await self.wait_for(lambda: len(self.messages) >= count, what, timeout)

    async def wait_for_close(self, code: int = 1000, timeout: float = TIMEOUT) -> None:
        """Wait until the server closes the connection with `code`, as the test expects.

        1005 means a close frame without a code, 1006 no close frame at all.
        """
        what = f"the server to close with code {code}"
        await self.wait_for(lambda: self.end_code == code, what, timeout)
        self.expected_codes.add(code)

    async def wait_for(
        self, has_happened: Callable[[], object], what: str, timeout: float
    ) -> None:
        """Wait until `what` has happened; all waits above go through here."""
        async with self.changed:
            event = self.changed.wait_for(lambda: has_happened() or self.ending)
            await bounded(event, what, timeout, self)
        if not has_happened():
            raise ConnectionError(f"waited for {what}\n{self}")

    async def deliver(
        self, message: bytes, opcode: int, compress: int | None = None
    ) -> None:
        """Send a frame; all of them go through here."""
        if self.close_sent and opcode in (WSMsgType.TEXT, WSMsgType.BINARY):
            problem = "the test sends a message after the close frame"
            raise RuntimeError(f"{problem} (RFC 6455, 5.5.1)\n{self}")
        counts = opcode not in (WSMsgType.PING, WSMsgType.PONG)
        self.sent += counts
        with suppress(ConnectionError):  # the next wait says how the connection ended
            sending = self.write(message, opcode, compress)
            await bounded(sending, "the server to read", TIMEOUT, self)
        self.sent += counts  # again: pings overtake a message that is being compressed

    async def receive(self, *_args: object, **_options: object) -> NoReturn:
        """Raise `RuntimeError`: this client's own task receives the messages."""
        raise RuntimeError("it listens by itself: use messages or wait_for_message()")

    async def send_close(self, code: int = 1000, reason: bytes = b"") -> None:
        """Send a close frame, once."""
        if not (self.close_sent or self.ending):
            self.close_sent = True
            self.expected_codes |= {1000, code}
            await self.send_frame(code.to_bytes(2, "big") + reason, WSMsgType.CLOSE)

    async def close(self, *, code: int = 1000, message: bytes = b"") -> bool:
        """Send a close frame, and record until the server's close frame."""
        if asyncio.current_task() is self.listener:  # aiohttp itself closes
            return await super().close(code=code, message=message)
        await self.send_close(code, message)
        await self.wait_for(lambda: self.ending, "the server's close frame", TIMEOUT)
        return True

    def record(
        self, frame: aiohttp.WSMessage, decoders: dict[WSMsgType, Decode]
    ) -> None:
        """Record a message; if it cannot be decoded, it is the last one."""
        self.messages.append(frame.data)
        try:
            if decode := decoders[frame.type]:
                self.messages[-1] = decode(frame.data)
            elif any(decoders.values()):
                raise TypeError(f"a {frame.type.name.lower()} frame")
        except Exception as error:
            self.ending = f"its last message cannot be decoded: {error!r}"

    async def listen(self, decoders: dict[WSMsgType, Decode], autoping: bool) -> None:
        """Record messages until the connection ends, and then how it ended."""
        self.listener = asyncio.current_task()
        while not self.ending:
            frame = await super().receive()
            order = "after" if self.close_sent else "before"
            when = f"{order} the client's close frame"
            match frame.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    self.record(frame, decoders)
                case WSMsgType.PING:
                    if autoping:
                        with suppress(TimeoutError):
                            await self.pong(frame.data)
                case WSMsgType.PONG:
                    sent = self.pings.pop(bytes(frame.data), 0)
                    self.settled = max(self.settled, sent)
                case WSMsgType.CLOSE:
                    self.end_code = frame.data or 1005
                    code = f"code {frame.data}" if frame.data else "no code"
                    reason = f" and reason {frame.extra!r}" if frame.extra else ""
                    self.ending = f"the server closed {when}, with {code}{reason}"
                case _:
                    self.end_code = 1006
                    cause = frame.data or "no close frame"
                    self.ending = f"the connection ended {when}: {cause}"
            async with self.changed:
                self.changed.notify_all()


async def settle_all() -> None:
    """Wait until the server has handled everything that the open clients have sent.

    A client that has sent nothing since its last pong needs no ping. Clients that are
    connecting are waited for, but not for long: the server may let one in only later.
    """
    if openings:
        await asyncio.wait(openings, timeout=TIMEOUT / 2)
    async with open_clients[0].barrier:  # then the next block finds nothing to wait for
        behind = [it for it in open_clients if it.sent > it.settled and not it.ending]
        await asyncio.gather(*[client.settle() for client in behind])


def report(error: BaseException) -> None:
    """Add five clients to an error, once: first those whose connection has ended."""
    if "client " not in str(getattr(error, "__notes__", "")):
        others = [it for it in reversed(open_clients) if str(it) not in str(error)]
        for client in sorted(others, key=lambda it: not it.ending)[:5]:
            error.add_note(str(client))
        if others[5:]:
            error.add_note(f"and {len(others[5:])} more clients")


@asynccontextmanager
async def create_socket_client(
    url: StrOrURL,
    *,
    decode: Decode = None,
    decode_bytes: Decode = None,
    connector: aiohttp.BaseConnector | None = None,
    **options: Any,
) -> AsyncIterator[TestWebSocket]:
    """Connect a client; yield it once the server is reading from it.

    `decode` turns a text into a message (such as `json.loads`), `decode_bytes` the
    bytes of a binary frame; with only one of them, the other kind is an error. Several
    clients may share a `connector`; it stays open. `options` go to `ws_connect()`.
    When the `async with` block ends, all open clients settle; then this client sends a
    close frame, and records until the server's close frame. After the block, `messages`
    holds everything that the server sent before that.
    Raises `TimeoutError` if the server does not open the connection, answer a ping or
    close the connection in time; `ConnectionError` if it closes first (unless the test
    expects it, with `wait_for_close()`), without a close frame, or with a code other
    than 1000. The article's `createSocketClient`.
    """
    decoders = {WSMsgType.TEXT: decode, WSMsgType.BINARY: decode_bytes}
    answers_pings = options.pop("autoping", True)
    session = ClientSession(
        ws_response_class=TestWebSocket,
        connector=connector,
        connector_owner=connector is None,
    )
    opening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    opening.add_done_callback(openings.discard)
    openings.add(opening)
    try:
        async with session:
            at_once = aiohttp.ClientWSTimeout(ws_close=0)  # does not wait for TCP's end
            connecting = session.ws_connect(
                url, autoping=False, timeout=at_once, **options
            )
            client = await bounded(connecting, "the server to open the connection")
            assert isinstance(client, TestWebSocket)
            listener = asyncio.create_task(client.listen(decoders, answers_pings))
            open_clients.append(client)
            try:
                try:
                    await client.settle()
                except TimeoutError:
                    if not client.messages:  # otherwise it sends before it reads
                        raise
                opening.cancel()
                yield client
                await settle_all()
                await client.close()
                if client.end_code not in client.expected_codes:
                    raise ConnectionError(str(client))
            except BaseException as error:
                report(error)
                raise
            finally:
                open_clients.remove(client)
                client._response.close()
                client._writer.transport.abort()  # even if the server does not read
                await asyncio.wait([listener], timeout=TIMEOUT)
    finally:
        opening.cancel()
