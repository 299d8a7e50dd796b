"""Integration tests of the WebSocket server."""

import pytest
from aiohttp import ClientSession, ClientTimeout, ClientWSTimeout, WSCloseCode, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .utils import (
    TIMEOUT,
    SocketState,
    compute_port,
    start_server,
    wait_for_socket_state,
)

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"
OPENING_TIMEOUT = ClientTimeout(total=TIMEOUT)
CLIENT_TIMEOUT = ClientWSTimeout(ws_receive=TIMEOUT, ws_close=TIMEOUT)


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server; pytest-aiohttp stops it after the test."""
    app = web.Application()
    create_websocket_server(app)
    return await start_server(aiohttp_server, app, PORT)


async def test_server_echoes_the_message_it_receives_from_client() -> None:
    test_message = "This is a test message"

    async with ClientSession(timeout=OPENING_TIMEOUT) as session:
        # Create test client
        client = await session.ws_connect(URL, timeout=CLIENT_TIMEOUT)
        await wait_for_socket_state(client, SocketState.OPEN)

        # Send client message
        await client.send_str(test_message)
        response_message = await client.receive_str()

        # Close the client after it receives the response
        await client.close()
        await wait_for_socket_state(client, SocketState.CLOSED)

    # Perform assertions on the response
    assert response_message == test_message
    assert client.close_code == WSCloseCode.OK


async def test_server_echoes_bytes_as_bytes() -> None:
    async with ClientSession(timeout=OPENING_TIMEOUT) as session:
        client = await session.ws_connect(URL, timeout=CLIENT_TIMEOUT)

        await client.send_bytes(b"\x00\xff")
        response_message = await client.receive_bytes()
        await client.close()

    assert response_message == b"\x00\xff"
    assert client.close_code == WSCloseCode.OK
