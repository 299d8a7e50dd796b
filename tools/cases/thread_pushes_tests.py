"""Tests of the server beside this file."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer
from thread_pushes import Hub, create_app

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture
async def hub(aiohttp_server: AiohttpServer, monkeypatch: pytest.MonkeyPatch) -> Hub:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)  # what is not thread-safe raises an error
    send_str = web.WebSocketResponse.send_str

    async def send_in_loop(*args: Any, **options: Any) -> None:
        assert asyncio.get_running_loop() is loop, "a send in another event loop"
        await send_str(*args, **options)

    monkeypatch.setattr(web.WebSocketResponse, "send_str", send_in_loop)
    hub = Hub()
    await start_server(aiohttp_server, create_app(hub), PORT)
    return hub


async def test_every_client_receives_each_text_once(hub: Hub) -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        for text in ("one", "two", "fence"):
            await asyncio.to_thread(hub.deliver, text)
        await client1.wait_for_message("fence")

    assert client1.messages == ["one", "two", "fence"]
    assert client2.messages == ["one", "two", "fence"]
