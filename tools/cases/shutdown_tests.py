"""Tests of the server beside this file."""

import pytest
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer
from shutdown import create_app

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_clients_hear_of_a_restart(server: TestServer) -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        await server.close()
        for client in (client1, client2):
            await client.wait_for_close(1001)
            assert "'restarting'" in client.ending
