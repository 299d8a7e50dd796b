"""Utilities for the tests of a WebSocket server."""

import asyncio
import os
import re
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from enum import Enum
from errno import EACCES, EADDRINUSE
from pathlib import Path
from traceback import clear_frames
from typing import TypeVar
from warnings import catch_warnings

import pytest
from aiohttp import ClientWebSocketResponse, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server

__tracebackhide__ = True  # in pytest's reports, whose subject is the test
TIMEOUT = 1  # second
Result = TypeVar("Result")


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
