"""Tests of the server beside this file."""

import asyncio
import json

import pytest
from pytest_aiohttp import AiohttpServer
from timer_pushes import create_app

from .utils import compute_port, create_socket_client, start_server

PORT = compute_port()


@pytest.mark.usefixtures("virtual_time")
async def test_weather_comes_every_10_seconds(aiohttp_server: AiohttpServer) -> None:
    await start_server(aiohttp_server, create_app(), PORT)
    url = f"ws://127.0.0.1:{PORT}"

    async with create_socket_client(url, decode=json.loads) as client:
        await asyncio.sleep(15)
        await client.send_str("hello")
        await asyncio.sleep(20)

    weather1, weather2, weather3 = [{"type": "weather", "n": n} for n in (1, 2, 3)]
    answer = {"type": "answer", "to": "hello"}
    assert client.messages == [weather1, answer, weather2, weather3]
