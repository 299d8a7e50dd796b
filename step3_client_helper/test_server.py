"""Integration tests of the WebSocket server."""

import pytest
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .utils import (
    SocketState,
    compute_port,
    create_socket_client,
    start_server,
    wait_for_socket_state,
)

PORT = compute_port()


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server; pytest-aiohttp stops it after the test."""
    return await start_server(aiohttp_server, PORT)


async def test_server_echoes_the_message_it_receives_from_client() -> None:
    test_message = "This is a test message"

    # Create test client
    async with create_socket_client(PORT, close_after=1) as (client, messages):
        # Send client message
        await client.send_str(test_message)
        await wait_for_socket_state(client, SocketState.CLOSED)

    # Perform assertions on the response
    assert messages == [test_message]


async def test_server_echoes_several_messages_in_order() -> None:
    # Create test clients
    async with (
        create_socket_client(PORT) as (_, other_messages),
        create_socket_client(PORT) as (client, messages),
    ):
        # Send client messages
        await client.send_str("first")
        await client.send_bytes(b"second")
        await client.send_str("")

    # Perform assertions on the responses
    assert messages == ["first", b"second", ""]
    assert other_messages == []
