"""Tests of the server beside this file."""

import pytest
from aiohttp.test_utils import TestServer
from freezegun import freeze_time
from frozen_time import IDLE, create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_session_ends() -> None:
    with freeze_time("2030-01-01", real_asyncio=True) as clock:
        async with create_socket_client(URL) as client:
            for seconds in (IDLE, IDLE + 1, IDLE):
                clock.tick(seconds)
                await client.send_str("hello")
                await client.settle()

    assert client.messages == ["hello", "session expired", "hello"]
