"""Tests of the server beside this file."""

import pytest
from aiohttp.test_utils import TestServer
from leaving import ONLINE, create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_others_hear_of_it(server: TestServer) -> None:
    async with create_socket_client(f"{URL}?name=grace") as grace:
        async with create_socket_client(f"{URL}?name=ada") as ada:
            await ada.send_str("hello")
        await grace.wait_for_message("ada left")
        assert server.app[ONLINE] == {"grace"}

    assert ada.messages == ["hello"]
    assert grace.messages == ["ada left"]
