"""Tests of the server beside this file."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from churn import create_app
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, create_socket_client, start_server

pytestmark = pytest.mark.usefixtures("virtual_time", "slow_sends")
PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture
def slow_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every send of the server wait, as it does when a client reads slowly."""
    send_str = web.WebSocketResponse.send_str

    async def slow_send_str(*args: Any, **options: Any) -> None:
        await asyncio.sleep(1)
        await send_str(*args, **options)

    monkeypatch.setattr(web.WebSocketResponse, "send_str", slow_send_str)


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_clients_come_and_go_while_a_broadcast_waits() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        await asyncio.sleep(10.5)  # the first send waits
        async with create_socket_client(URL):
            await asyncio.sleep(1)  # the second send waits when this one leaves
        await asyncio.sleep(20)

    assert client1.messages == ["state 0", "state 1"]
    assert client2.messages == ["state 0", "state 1"]
