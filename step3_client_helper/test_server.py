"""Integration tests of the WebSocket server."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .utils import (
    SocketState,
    compute_port,
    create_socket_client,
    start_server,
    wait_for_socket_state,
)

PORT = compute_port()
TEXTS = [
    "first",
    "first",
    "",
    " <b>Cafe\u0301</b>\r\n\0🎉 ",
    "x" * 126,  # from 126 bytes on, the header of a frame is longer
    "y" * 65_536,  # and longer still from 65,536 bytes on
    "last",
]


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server; pytest-aiohttp stops it after the test."""
    app = web.Application()
    create_websocket_server(app)
    return await start_server(aiohttp_server, app, PORT)


async def test_server_echoes_the_message_it_receives_from_client() -> None:
    test_message = "This is a test message"

    # Create test client
    async with create_socket_client(PORT, close_after=1) as (client, messages):
        # Send client message
        await client.send_str(test_message)
        await wait_for_socket_state(client, SocketState.CLOSED)

    # Perform assertions on the response
    assert messages == [test_message]


async def test_echo_in_order() -> None:
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(PORT) as (client2, messages2),
        create_socket_client(PORT) as (client3, messages3),
    ):
        for text in TEXTS:
            await client3.send_str(text)
            await client2.send_bytes(text.encode())
            await client2.send_str(text)
        await client1.send_str("only this")

    assert messages1 == ["only this"]
    assert messages2 == [m for text in TEXTS for m in (text.encode(), text)]
    assert messages3 == TEXTS
