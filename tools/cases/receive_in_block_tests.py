"""Tests of the server beside this file."""

import pytest
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer
from receive_in_block import create_app

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_the_helper_receives() -> None:
    async with create_socket_client(URL) as client:
        with pytest.raises(RuntimeError, match="listens by itself"):
            await client.receive_str()


async def test_order() -> None:
    async with create_socket_client(URL) as client:
        await client.send_str("bread")
        await client.wait_for_message("accepted bread")

    assert client.messages == ["accepted bread", "baked bread"]
