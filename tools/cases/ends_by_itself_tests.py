"""Tests of the server beside this file."""

import pytest
from aiohttp.test_utils import TestServer
from ends_by_itself import create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_stream_ends() -> None:
    async with create_socket_client(URL) as client:
        await client.wait_for_close()

    assert client.messages == ["10 %", "50 %", "done"]
