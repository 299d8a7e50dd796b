"""Tests of the client beside this file."""

import asyncio

import pytest
from client_under_test import Feed
from pytest_aiohttp import AiohttpServer

from .script import ScriptedServer
from .utils import compute_port, start_server

PORT = compute_port()


@pytest.mark.usefixtures("virtual_time")
async def test_subscribes_again(aiohttp_server: AiohttpServer) -> None:
    server = ScriptedServer()
    await start_server(aiohttp_server, server.app, PORT)
    feed = Feed(f"ws://127.0.0.1:{PORT}")
    task = asyncio.create_task(feed.run())
    try:
        for price in ("1.20", "1.30"):
            await server.expect("(connected)", "subscribe milk")
            await server.socket.send_str(price)
            await server.expect_nothing(1)
            await server.socket.close(code=1001)
            await server.expect("(closed)")
        await server.expect("(connected)")
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=60)
        if task.done() and not task.cancelled():
            task.result()  # raises the error that ended the client

    assert feed.prices == ["1.20", "1.30"]
