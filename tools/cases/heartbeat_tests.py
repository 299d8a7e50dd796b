"""Tests of the server beside this file."""

import asyncio

import pytest
from aiohttp.test_utils import TestServer
from heartbeat import create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


@pytest.mark.usefixtures("virtual_time")
async def test_silent_client_is_dropped() -> None:
    async with (
        create_socket_client(f"{URL}?name=grace") as grace,
        create_socket_client(f"{URL}?name=ada", autoping=False) as ada,
    ):
        await asyncio.sleep(44)
        assert grace.messages == []
        await asyncio.sleep(3600)
        await ada.wait_for_close(1006)

    assert grace.messages == ["ada left"]
    assert ada.messages == []
