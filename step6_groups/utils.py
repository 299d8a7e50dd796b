"""Utilities for the tests of a WebSocket server."""

import asyncio
import gc
import os
import re
import reprlib
import secrets
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from enum import Enum
from errno import EACCES, EADDRINUSE
from pathlib import Path
from typing import Any, TypeVar
from warnings import catch_warnings

import pytest
from aiohttp import (
    ClientError,
    ClientSession,
    ClientWebSocketResponse,
    WSCloseCode,
    WSMsgType,
    web,
)
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

__tracebackhide__ = True  # pytest's reports show the test, not this file
# The limit of a wait, in seconds. Most take milliseconds; slow machines set more.
TIMEOUT = float(os.environ.get("TIMEOUT") or "1")
Result = TypeVar("Result")


class SocketState(Enum):
    """The states of a connection; their values are those of `socket.closed`."""

    OPEN = False
    CLOSED = True


class Messages(list[str | bytes]):
    """The messages that a client has received, and the state of its connection."""

    number = 0  # of the client, in reports
    close_sent = False
    listener: asyncio.Task[None]  # ends with the connection


open_clients: dict[ClientWebSocketResponse, Messages] = {}
pongs: dict[bytes, asyncio.Future[None]] = {}  # that listen() waits for


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


async def wait_for_socket_state(
    socket: ClientWebSocketResponse, state: SocketState, timeout: float = TIMEOUT
) -> None:
    """Wait until `socket` is in `state`.

    Raises `TimeoutError` after `timeout` seconds, `ConnectionError` if the socket is
    closed and should be open. The article's `waitForSocketState`.
    """

    async def poll() -> None:
        while socket.closed is not state.value:
            if socket.closed:
                raise ConnectionError(f"the socket is CLOSED, not {state.name}")
            await asyncio.sleep(0.001)

    await bounded(poll(), f"the socket to be {state.name}", timeout)


async def wait_for_messages(
    messages: Messages, count: int, timeout: float = TIMEOUT
) -> None:
    """Wait until `count` messages are recorded.

    Raises `TimeoutError` after `timeout` seconds, `ConnectionError` if the connection
    ends first.
    """

    async def poll() -> None:
        while len(messages) < count:
            if messages.listener.done():
                raise ConnectionError(f"the connection ended before message {count}")
            await asyncio.sleep(0.001)

    await bounded(poll(), f"{count} message(s)", timeout)


async def settle(client: ClientWebSocketResponse, timeout: float = TIMEOUT) -> None:
    """Wait until the server has handled everything that `client` has sent.

    Sends a ping. aiohttp's server answers it when its handler asks for the next
    message, so the pong means that all messages before it have been handled. After a
    close frame no ping may follow: then this waits for the server's close frame.
    Raises `TimeoutError` after `timeout` seconds.
    """
    messages = open_clients.get(client)
    if messages is None:
        return
    if messages.close_sent:
        what = f"the server's close frame to client {messages.number}"
        await bounded(asyncio.wait([messages.listener]), what, timeout)
        return
    payload = secrets.token_bytes(8)  # so that each ping knows its pong
    pongs[payload] = pong = asyncio.get_running_loop().create_future()

    async def ping() -> None:
        with suppress(ConnectionError):
            await client.ping(payload)
        events = [pong, messages.listener]  # which ends with the connection
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)

    what = f"the server to answer a ping of client {messages.number}"
    await bounded(ping(), what, timeout)


async def send_close(client: ClientWebSocketResponse, messages: Messages) -> None:
    """Send a close frame, once; `client.close()` would discard messages."""
    if not messages.close_sent:
        messages.close_sent = True
        code = WSCloseCode.OK.to_bytes(2, "big")  # a close frame begins with its code
        with suppress(ConnectionError):  # listen() will report the lost connection
            await client.send_frame(code, WSMsgType.CLOSE)


async def listen(
    client: ClientWebSocketResponse, messages: Messages, close_after: int | None
) -> None:
    """Record messages until the server's close frame.

    Raises `ConnectionError` if there is none, if it comes before the client's own, or
    if its code is not 1000.
    """
    while True:
        frame = await client.receive()
        match frame.type:
            case WSMsgType.TEXT | WSMsgType.BINARY:
                messages.append(frame.data)
                if len(messages) == close_after:
                    await send_close(client, messages)
            case WSMsgType.PING:
                await client.pong(frame.data)
            case WSMsgType.PONG:
                if pong := pongs.pop(bytes(frame.data), None):
                    pong.set_result(None)
            case _:
                break
    when = f"{'after' if messages.close_sent else 'before'} the client's close frame"
    if frame.type is WSMsgType.CLOSING:  # not a frame: aiohttp's sign for close()
        raise ConnectionError("the test called close(), which throws messages away")
    if frame.type is not WSMsgType.CLOSE:
        reason = frame.data or "no close frame"
        raise ConnectionError(f"the connection ended {when}: {reason}")
    if frame.data != WSCloseCode.OK or not messages.close_sent:
        code = f"code {frame.data}" if frame.data else "no code"
        reason = f" and reason {frame.extra!r}" if frame.extra else ""
        raise ConnectionError(f"the server closed {when}, with {code}{reason}")


def add_note(error: BaseException, messages: Messages) -> None:
    """Add to a report what a client had received, and how its connection ended."""
    end = messages.listener.done() and messages.listener.exception()
    state = f": {end};" if end and end is not error else ""
    received = f"had received {len(messages)}: {reprlib.repr(list(messages))}"
    error.add_note(f"client {messages.number}{state} {received}")


@asynccontextmanager
async def create_socket_client(
    port: int, close_after: int | None = None
) -> AsyncIterator[tuple[ClientWebSocketResponse, Messages]]:
    """Connect a client; yield it, and the list in which its messages are recorded.

    The client sends a close frame after `close_after` messages, or at the end of the
    `async with` block, when all open clients have settled. It records until the
    server's close frame: after the block, the list holds everything that the server
    sent before that.
    Raises `TimeoutError` if the server does not open the connection, answer a ping or
    close the connection in time, `ConnectionError` if it closes first, without a close
    frame, or with a code other than 1000. The article's `createSocketClient`.
    """
    messages = Messages()
    async with ClientSession() as session:
        connecting = session.ws_connect(f"ws://127.0.0.1:{port}", autoping=False)
        try:
            client = await bounded(connecting, "the server to open the connection")
        except ClientError as error:
            raise error.with_traceback(None) from None  # hide aiohttp's frames
        numbers = [other.number for other in open_clients.values()]
        messages.number = max(numbers, default=0) + 1
        messages.listener = asyncio.create_task(listen(client, messages, close_after))
        open_clients[client] = messages
        try:
            await settle(client)
            yield client, messages
            await asyncio.gather(*map(settle, open_clients))
            # A time-out must not cancel the listener: add_note() asks it for the cause.
            ending = asyncio.shield(messages.listener)
            closing = asyncio.gather(send_close(client, messages), ending)
            await bounded(closing, "the server's close frame")
        except BaseException as error:  # also what pytest.fail() raises
            add_note(error, messages)
            raise
        finally:
            del open_clients[client]
            messages.listener.cancel()
            await asyncio.gather(messages.listener, return_exceptions=True)
            with suppress(TimeoutError):  # nothing is left that close() could discard
                await bounded(client.close(), "the connection to end", 0.1)
