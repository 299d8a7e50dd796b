"""Integration tests of the WebSocket server."""

import asyncio
from contextlib import suppress

import pytest
from aiohttp import ClientSession, WSCloseCode, web
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .utils import compute_port

PORT = compute_port()


@pytest.mark.parametrize("test_message", ["This is a test message", b"\x00\xff"])
async def test_server_echoes_the_message_it_receives_from_client(
    aiohttp_server: AiohttpServer, test_message: str | bytes
) -> None:
    app = web.Application()
    create_websocket_server(app)
    # By default a server that stops waits 60 seconds for its clients to leave.
    await aiohttp_server(app, port=PORT, shutdown_timeout=0.1)
    response_message = None

    # A server that hangs gets 1 second; the assertions then tell what is missing.
    with suppress(TimeoutError):
        async with asyncio.timeout(1), ClientSession() as session:
            # Create test client
            client = await session.ws_connect(f"ws://127.0.0.1:{PORT}")

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
    assert client.close_code == WSCloseCode.OK, "no close frame within 1 second"
