"""Tests of handshakes that fail, and of those that come all at once."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import (
    ClientSession,
    WSServerHandshakeError,
    web,
)
from aiohttp.log import server_logger

from ..conftest import Start
from ..messages import (
    PORT,
    URL,
    create_socket_client,
    echo,
    send,
    to_all,
)
from ..server import PATH, create_websocket_server
from ..utils import TIMEOUT, bounded

pytestmark = pytest.mark.usefixtures("no_server_errors")
HANDSHAKE = (
    f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
MALFORMED_HANDSHAKES = {
    "no upgrade": HANDSHAKE.replace(b"Upgrade: websocket\r\n", b""),
    "old version": HANDSHAKE.replace(b"13", b"6"),
    "key too short": HANDSHAKE.replace(b"dGhl", b""),
    "key not in base64": HANDSHAKE.replace(b"dGhl", b"dGh"),
    "key not in ASCII": HANDSHAKE.replace(b"dGhl", "dGhé".encode()),
    "header without a colon": HANDSHAKE.replace(b"Host:", b"Host"),
    "unknown HTTP": HANDSHAKE.replace(b"1.1", b"9.9"),
    "not HTTP": b"\x16\x03\x01\x02\r\n\r\n",
}


async def test_many_clients_at_once(start: Start) -> None:
    """Fifty clients connect at the same time; there is room for ten."""
    await start(clients=10)

    async with asyncio.timeout(2 * TIMEOUT), ClientSession() as session:
        connecting = [session.ws_connect(URL) for _ in range(50)]
        clients = await asyncio.gather(*connecting, return_exceptions=True)

    refused = [c for c in clients if isinstance(c, WSServerHandshakeError)]
    assert len(refused) == 40


@asynccontextmanager
async def connect() -> AsyncIterator[socket.socket]:
    """Connect a plain socket; in the end, reset the connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", PORT))
        yield connection
        at_once = struct.pack("ii", 1, 0)  # linger: on, 0 seconds, so closing resets
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)


async def receive_all(connection: socket.socket) -> bytes:
    """Return everything that a socket receives until the connection ends."""
    received = b""
    while more := await asyncio.get_running_loop().sock_recv(connection, 1_000):
        received += more
    return received


@pytest.mark.parametrize("sent", [b"", HANDSHAKE[:60]])
async def test_handshake_without_end(start: Start, sent: bytes) -> None:
    await start(heartbeat=0.1)

    async with create_socket_client(URL) as client:
        async with connect() as bad_client:
            bad_client.send(sent)
            end = receive_all(bad_client)
            received = await bounded(end, "the server to cut it off", 0.3)
        await send(client, to_all("HI"))

    assert received == b""
    assert client.messages == [echo("HI")]


@pytest.mark.parametrize("size", [0, 60, len(HANDSHAKE)])
async def test_clients_that_reset_in_their_handshake(start: Start, size: int) -> None:
    await start(clients=2)

    async with create_socket_client(URL) as client1:
        for _ in range(5):
            async with connect() as bad_client:
                bad_client.send(HANDSHAKE[:size])
            await client1.settle()
        async with create_socket_client(URL) as client2:
            await send(client2, to_all("two of us"))

    assert client1.messages == client2.messages == [echo("two of us")]


@pytest.mark.parametrize(
    "handshake", MALFORMED_HANDSHAKES.values(), ids=MALFORMED_HANDSHAKES
)
async def test_malformed_handshake(start: Start, handshake: bytes) -> None:
    await start()

    async with connect() as bad_client:
        bad_client.send(handshake)
        response = asyncio.get_running_loop().sock_recv(bad_client, 1_000)
        status = (await bounded(response, "a response")).split()[1]

    assert status == b"400"


def test_errors_of_ours_are_logged(
    caplog: pytest.LogCaptureFixture, no_server_errors: list[str]
) -> None:
    create_websocket_server(web.Application())

    server_logger.error("without an exception")
    server_logger.error("with one", exc_info=RuntimeError("ours"))

    assert [record.message for record in caplog.records] == [
        "without an exception",
        "with one",
    ]
    no_server_errors.clear()
