"""Tests of the server beside this file."""

import pytest
from aiohttp.test_utils import TestServer
from large import create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


MIB = 2**20


async def test_6_mib_both_ways() -> None:
    async with create_socket_client(URL, max_msg_size=8 * MIB) as client:
        await client.send_bytes(b"x" * 6 * MIB)
        await client.send_str(str(6 * MIB))

    assert client.messages == [f"stored {6 * MIB}", b"x" * 6 * MIB]


async def test_more_is_refused() -> None:
    async with create_socket_client(URL) as client:
        await client.send_bytes(b"x" * 9 * MIB)
        await client.wait_for_close(1009)

    assert client.messages == []
