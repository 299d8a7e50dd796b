"""Tests of the server beside this file."""

import pytest
from aiohttp.test_utils import TestServer
from handler_fails import TASKS, create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_echo() -> None:
    async with create_socket_client(URL) as client:
        await client.send_str("HI")

    assert client.messages == ["HI"]
    for task in TASKS:
        if task.done():
            task.result()
