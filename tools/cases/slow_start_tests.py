"""Tests of the server beside this file."""

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestServer
from slow_start import create_app

from .utils import compute_port, create_socket_client

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True, scope="session")
async def server() -> AsyncIterator[TestServer]:
    server = TestServer(create_app(), port=PORT)
    await server.start_server(shutdown_timeout=0.3)
    server.handler.handler_cancellation = False  # as in production
    yield server
    await server.close()


@pytest.mark.parametrize("_", range(10))  # 5 s, if each test started it
async def test_look_up(_: int) -> None:
    async with create_socket_client(URL) as client:
        await client.send_str("a")
        await client.send_str("b")

    assert client.messages == ["1", "?"]
