"""Tests of the server beside this file."""

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer
from strict_mode import create_app

from .utils import compute_port, create_socket_client, start_server

pytestmark = pytest.mark.asyncio
PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest_asyncio.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_order() -> None:
    async with create_socket_client(URL) as client:
        await client.send_str("bread")

    assert client.messages == ["accepted bread", "baked bread"]
