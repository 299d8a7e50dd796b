"""Tests of the server beside this file."""

import pytest
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer
from refused import create_app

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_stranger_is_refused() -> None:
    async with create_socket_client(URL) as client:
        await client.wait_for_close(4001)

    assert client.messages == []
    assert "'bad token'" in client.ending


async def test_friend_comes_in() -> None:
    async with create_socket_client(f"{URL}?token=sesame") as client:
        await client.send_str("hello")

    assert client.messages == ["hello"]
