"""Tests of the server beside this file."""

import ssl

import pytest
import trustme
from aiohttp import ClientConnectorCertificateError
from pytest_aiohttp import AiohttpServer
from tls import create_app

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"wss://127.0.0.1:{PORT}"
AUTHORITY = trustme.CA()


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    await start_server(aiohttp_server, create_app(), PORT, ssl=context)


async def test_friend_trusts_it() -> None:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    async with create_socket_client(URL, ssl=context) as client:
        await client.send_str("hello")

    assert client.messages == ["secure=True hello"]


async def test_stranger_does_not_trust_it() -> None:
    with pytest.raises(ClientConnectorCertificateError):
        async with create_socket_client(URL):
            pass
