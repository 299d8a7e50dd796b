"""Utilities for the tests of a WebSocket server."""

import asyncio
import os
import re
import time
from enum import Enum
from pathlib import Path
from socket import create_server

import pytest
from aiohttp import ClientWebSocketResponse, web
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
