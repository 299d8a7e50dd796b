"""Check that a client that leaves is no fault of a server: nothing is logged."""

import asyncio
import logging
import struct
from importlib import import_module
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

STEPS = [path.name for path in sorted(Path().glob("step*_*"))]
REQUEST = {"type": "ECHO_TIMES_3", "value": "x" * 1000}


@pytest.mark.parametrize("step", STEPS)
async def test_client_that_leaves_while_it_is_answered(
    step: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application()
    import_module(f"{step}.server").create_websocket_server(app)
    async with TestServer(app) as server:
        server.handler.handler_cancellation = False
        for _ in range(20):
            async with asyncio.timeout(5), ClientSession() as session:
                client = await session.ws_connect(server.make_url("/"))
                for _ in range(5):
                    await client.send_json(REQUEST)
                connection = client.get_extra_info("socket")
                connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                client._response.close()
            await asyncio.sleep(0.005)
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []
