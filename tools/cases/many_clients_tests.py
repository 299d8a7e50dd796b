"""Tests of the server beside this file."""

from contextlib import AsyncExitStack

import pytest
from aiohttp.test_utils import TestServer
from many_clients import create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_text_reaches_everybody_once() -> None:
    async with AsyncExitStack() as stack:
        blocks = [create_socket_client(URL) for _ in range(160)]
        clients = [await stack.enter_async_context(block) for block in blocks]
        await clients[0].send_str("hello")

    assert [client.messages for client in clients] == [["hello"]] * 160
