"""Tests of the server beside this file."""

import pytest
from aiohttp.test_utils import TestServer
from not_registered_yet import create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_everybody_in_the_room_hears_it() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        await client1.send_str("hello")

    assert client1.messages == client2.messages == ["welcome", "hello"]
