"""Utilities for the tests of a WebSocket server."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path
from socket import create_server

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSCloseCode, WSMsgType, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server

TIMEOUT = 1  # second


class SocketState(Enum):
    """The states to wait for, each with what `socket.closed` says in it."""

    OPEN = False
    CLOSED = True


def compute_port() -> int:
    """Return a port of this folder's own: `BASE_PORT + 10 * worker + step`.

    `BASE_PORT` comes from the environment (3000 by default), `worker` from
    pytest-xdist (0 without it), `step` from the folder's name (0 if it has none).
    Fails the test module, in one line, when no server can listen there.
    The article's `3000 + Number(process.env.JEST_WORKER_ID)`.
    """
    base_port = os.environ.get("BASE_PORT", "3000")
    if not base_port.isdecimal() or int(base_port) > 65000:
        pytest.fail(f"BASE_PORT={base_port} is no number up to 65000", pytrace=False)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    port = int(base_port) + 10 * int(worker) + (int(step[1]) if step else 0)
    try:
        create_server(("127.0.0.1", port)).close()
        return port
    except OSError as error:
        problem = error
    pytest.fail(f"cannot use port {port}, set BASE_PORT: {problem}", pytrace=False)


async def start_server(aiohttp_server: AiohttpServer, port: int) -> TestServer:
    """Start a server on `port` and return it; pytest-aiohttp stops it after the test.

    The article's `startServer`.
    """
    app = web.Application()
    create_websocket_server(app)
    # By default a server that stops waits 60 seconds for its clients to leave.
    return await aiohttp_server(app, port=port, shutdown_timeout=0.1)


async def wait_for_socket_state(
    socket: ClientWebSocketResponse, state: SocketState, timeout: float = TIMEOUT
) -> None:
    """Wait until `socket` is in `state`.

    Raises `TimeoutError` when that takes more than `timeout` seconds.
    The article's `waitForSocketState`.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout
    while socket.closed is not state.value:
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for the socket to be {state.name}")
        await asyncio.sleep(0.005)


@asynccontextmanager
async def create_socket_client(
    port: int, close_after: int | None = None
) -> AsyncIterator[tuple[ClientWebSocketResponse, list[str | bytes]]]:
    """Connect a client; yield it with the list that its messages are recorded in.

    It says goodbye (sends a close frame) after `close_after` messages, or else when
    the `async with` block ends, and records until the server's own close frame: a
    server answers in order, so the list is complete after the block.
    Raises `TimeoutError` when the server does not open the connection or close it
    within 1 second, `ConnectionError` when it hangs up without a close frame.
    The article's `createSocketClient`.
    """
    __tracebackhide__ = True
    messages: list[str | bytes] = []
    goodbye_said = False

    async def say_goodbye() -> None:
        nonlocal goodbye_said
        if goodbye_said:
            return
        goodbye_said = True
        with suppress(ConnectionError):  # the server may be gone already
            await client.send_frame(WSCloseCode.OK.to_bytes(2, "big"), WSMsgType.CLOSE)

    async def listen() -> WSMsgType:
        while True:
            message = await client.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return message.type
            messages.append(message.data)
            if len(messages) == close_after:
                await say_goodbye()

    async with ClientSession() as session:
        try:
            async with asyncio.timeout(TIMEOUT):
                client = await session.ws_connect(f"ws://127.0.0.1:{port}")
        except TimeoutError:
            problem = f"waited {TIMEOUT} s for the server to open the connection"
            raise TimeoutError(problem) from None
        listener = asyncio.create_task(listen())
        try:
            yield client, messages
            await say_goodbye()
            await asyncio.wait([listener], timeout=TIMEOUT)
            if not listener.done():
                raise TimeoutError(f"waited {TIMEOUT} s for the server's close frame")
            if listener.result() is not WSMsgType.CLOSE:
                raise ConnectionError("the connection ended without a close frame")
        except Exception as error:
            error.add_note(f"the client had received {len(messages)}: {messages[:10]}")
            raise
        finally:
            listener.cancel()
            await asyncio.wait([listener])
            with suppress(TimeoutError):
                async with asyncio.timeout(TIMEOUT):
                    await client.close()
