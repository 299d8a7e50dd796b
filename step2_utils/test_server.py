"""Integration tests of the WebSocket server."""

import asyncio
from contextlib import suppress

import pytest
from aiohttp import ClientSession, WSCloseCode
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .utils import SocketState, compute_port, start_server, wait_for_socket_state

PORT = compute_port()


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server; pytest-aiohttp stops it after the test."""
    return await start_server(aiohttp_server, PORT)


@pytest.mark.parametrize("test_message", ["This is a test message", b"\x00\xff"])
async def test_server_echoes_the_message_it_receives_from_client(
    test_message: str | bytes,
) -> None:
    response_message = None

    # A server that hangs gets 1 second; the assertions then tell what is missing.
    with suppress(TimeoutError):
        async with asyncio.timeout(1), ClientSession() as session:
            # Create test client
            client = await session.ws_connect(f"ws://127.0.0.1:{PORT}")
            await wait_for_socket_state(client, SocketState.OPEN)

            # Send client message
            if isinstance(test_message, str):
                await client.send_str(test_message)
            else:
                await client.send_bytes(test_message)

            # Close the client after it receives the response
            response_message = (await client.receive()).data
            await client.close()

    # Perform assertions on the response
    assert response_message == test_message, "no such echo within 1 second"
    await wait_for_socket_state(client, SocketState.CLOSED)
    assert client.close_code == WSCloseCode.OK, "no close frame within 1 second"
