"""Tests of the server beside this file."""

import asyncio

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from post_pushes import create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


@pytest.mark.usefixtures("virtual_time")
async def test_everybody_hears_a_price_once() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        ClientSession() as session,
    ):
        for price in ("1.20", "1.30"):
            async with session.post(
                f"http://127.0.0.1:{PORT}/prices", data=price
            ) as response:
                assert response.status == 204
        await asyncio.sleep(3600)

    assert client1.messages == client2.messages == ["1.20", "1.30"]
