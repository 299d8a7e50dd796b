"""Utilities for the tests of a WebSocket server."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from aiohttp import ClientWebSocketResponse, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

__tracebackhide__ = True  # pytest's reports show the test, not this file
# The limit of a wait, in seconds. Most take milliseconds; slow machines set more.
TIMEOUT = float(os.environ.get("TIMEOUT") or "1")


class SocketState(Enum):
    """The states of a connection; their values are those of `socket.closed`."""

    OPEN = False
    CLOSED = True


def compute_port() -> int:
    """Return `BASE_PORT + 100 * worker + step`; in the article, `3000 + worker`."""
    base_port = int(os.environ.get("BASE_PORT") or "3000")
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    return base_port + 100 * worker + (int(step[1]) if step else 99)


async def start_server(
    aiohttp_server: AiohttpServer, app: web.Application, port: int, **options: Any
) -> TestServer:
    """Run `app` on `port` until the test has ended; the article's `startServer`."""
    options = {"shutdown_timeout": 0.3 * TIMEOUT, **options}  # by default, 2 x 60 s
    return await aiohttp_server(app, port=port, **options)


@asynccontextmanager
async def bounded(what: str, timeout: float = TIMEOUT) -> AsyncIterator[None]:
    """Bound a wait for `what` to `timeout` seconds: then it raises `TimeoutError`."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError:
        raise TimeoutError(f"waited {timeout:g} s for {what}") from None


async def wait_for_socket_state(
    socket: ClientWebSocketResponse, state: SocketState, timeout: float = TIMEOUT
) -> None:
    """Wait until `socket` is in `state`; the article's `waitForSocketState`.

    Raises `TimeoutError` after `timeout` seconds, `ConnectionError` if it is too late.
    """
    async with bounded(f"the socket to be {state.name}", timeout):
        while socket.closed is not state.value:
            if socket.closed:
                raise ConnectionError(f"the socket is CLOSED, not {state.name}")
            await asyncio.sleep(0.001)
