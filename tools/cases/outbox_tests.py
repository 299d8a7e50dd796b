"""Tests of the server beside this file."""

import pytest
from aiohttp.test_utils import TestServer
from outbox import create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_room_hears_it_once_and_other_rooms_nothing() -> None:
    async with (
        create_socket_client(f"{URL}/red") as ada,
        create_socket_client(f"{URL}/red") as bob,
        create_socket_client(f"{URL}/blue") as eve,
    ):
        await ada.send_str("hello")
        for client in (ada, bob, eve):  # the speaker first
            await client.send_str("ping")
            await client.wait_for_message("pong")

    assert ada.messages == ["hello", "pong"]
    assert bob.messages == ["hello", "pong"]
    assert eve.messages == ["pong"]
