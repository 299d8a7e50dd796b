"""Utilities for the tests of a WebSocket server."""

import asyncio
import gc
import os
import re
from collections.abc import Awaitable
from enum import Enum
from errno import EACCES, EADDRINUSE
from pathlib import Path
from typing import Any, TypeVar
from warnings import catch_warnings

import pytest
from aiohttp import ClientWebSocketResponse, web
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
