"""Utilities for the tests of a WebSocket server."""

import asyncio
import os
import re
import reprlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import Enum
from errno import EACCES, EADDRINUSE
from pathlib import Path
from traceback import clear_frames
from typing import TypeVar
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

from .server import create_websocket_server

__tracebackhide__ = True  # in pytest's reports, whose subject is the test
TIMEOUT = 1  # second
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


async def start_server(aiohttp_server: AiohttpServer, port: int) -> TestServer:
    """Start a server on `port` and return it; pytest-aiohttp stops it after the test.

    The article's `startServer`.
    """
    app = web.Application()
    create_websocket_server(app)
    with explain_busy_port(port):
        # A server that stops waits for its clients, by default for 2 x 60 seconds.
        return await aiohttp_server(app, port=port, shutdown_timeout=0.1)


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


async def wait_for_socket_state(
    socket: ClientWebSocketResponse, state: SocketState, timeout: float = TIMEOUT
) -> None:
    """Wait until `socket` is in `state`.

    Raises `TimeoutError` when that takes more than `timeout` seconds.
    The article's `waitForSocketState`.
    """

    async def poll() -> None:
        while socket.closed is not state.value:
            await asyncio.sleep(0.001)

    await bounded(poll(), f"the socket to be {state.name}", timeout)


async def send_close(
    client: ClientWebSocketResponse, close_sent: asyncio.Event
) -> None:
    """Send a close frame, the first time; `client.close()` would lose messages."""
    if not close_sent.is_set():
        close_sent.set()
        with suppress(ConnectionError):  # listen() reports what became of it
            await client.send_frame(WSCloseCode.OK.to_bytes(2, "big"), WSMsgType.CLOSE)


async def listen(
    client: ClientWebSocketResponse,
    messages: list[str | bytes],
    close_after: int | None,
    close_sent: asyncio.Event,
) -> None:
    """Record messages until the server's close frame.

    Raises `ConnectionError` when none comes, when it comes before the client has sent
    its own, or when its code is not 1000.
    """
    frame = await client.receive()
    while frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
        messages.append(frame.data)
        if len(messages) == close_after:
            await send_close(client, close_sent)
        frame = await client.receive()
    when = f"{'after' if close_sent.is_set() else 'before'} the client's close frame"
    if frame.type is not WSMsgType.CLOSE:
        reason = frame.data or "no close frame"
        raise ConnectionError(f"the connection ended {when}: {reason}")
    if frame.data != WSCloseCode.OK or not close_sent.is_set():
        raise ConnectionError(f"the server closed {when}, with code {frame.data}")


@asynccontextmanager
async def create_socket_client(
    port: int, close_after: int | None = None
) -> AsyncIterator[tuple[ClientWebSocketResponse, list[str | bytes]]]:
    """Connect a client; yield it with the list that its messages are recorded in.

    It sends a close frame after `close_after` messages, or else when the `async with`
    block ends, and records until the server's close frame: after the block, the list
    holds all that the server sent before that.
    Raises `TimeoutError` when the server does not open the connection, or close it,
    within 1 second, `ConnectionError` when it closes it before the client has sent
    its close frame, without one of its own, or with another code than 1000.
    The article's `createSocketClient`.
    """
    messages: list[str | bytes] = []
    close_sent = asyncio.Event()
    async with ClientSession() as session:
        connecting = session.ws_connect(f"ws://127.0.0.1:{port}")
        client = await bounded(connecting, "the server to open the connection")
        listener = asyncio.create_task(
            listen(client, messages, close_after, close_sent)
        )
        number = max(open_clients, default=0) + 1
        open_clients.append(number)
        try:
            yield client, messages
            closing = asyncio.gather(send_close(client, close_sent), listener)
            await bounded(closing, "the server's close frame")
        except BaseException as error:  # pytest.fail() is no Exception
            received = f"had received {len(messages)}: {reprlib.repr(messages)}"
            name = f"client {number}, close code {client.close_code}"
            error.add_note(f"{name}, {received}")
            raise
        finally:
            open_clients.remove(number)
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            with suppress(TimeoutError):
                await bounded(client.close(), "the connection to end")
