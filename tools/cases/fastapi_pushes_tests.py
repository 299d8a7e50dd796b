"""Tests of the server beside this file."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import uvicorn
from aiohttp import ClientSession
from fastapi_pushes import PRICES, app

from .utils import bounded, compute_port, create_socket_client

PORT = compute_port()
SITE = f"http://127.0.0.1:{PORT}"
URL = f"ws://127.0.0.1:{PORT}/prices"


@pytest.fixture(autouse=True)
async def server() -> AsyncIterator[uvicorn.Server]:
    config = uvicorn.Config(
        app, port=PORT, log_config=None, timeout_graceful_shutdown=1
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with suppress(SystemExit):
        await bounded(server.startup(), "uvicorn to start")
    if not server.started:
        pytest.fail("uvicorn did not start: its log says why", pytrace=False)
    yield server
    with suppress(TimeoutError):  # the guard reports what does not stop
        await bounded(server.shutdown(), "uvicorn to stop", 5)


async def post(path: str) -> dict[str, str]:
    """Return the headers of somebody with the cookies that come back."""
    async with ClientSession() as session, session.post(SITE + path) as response:
        assert response.status == 200
        names = response.cookies
        return {"Cookie": "; ".join(f"{n}={names[n].value}" for n in names)}


@pytest.mark.usefixtures("virtual_time")
async def test_price_reaches_every_client_once() -> None:
    ada, grace = await post("/login?name=Ada"), await post("/login?name=Grace")
    async with (
        create_socket_client(URL, headers=ada, decode=json.loads) as client1,
        create_socket_client(URL, headers=grace, decode=json.loads) as client2,
    ):
        await asyncio.sleep(1)
        await post("/price?price=1.30")
        await asyncio.sleep(3600)

    assert client1.messages == [{"price": "1.30"}]
    assert client2.messages == [{"price": "1.30"}]


async def test_price_reaches_every_client_once_without_looptime() -> None:
    ada = await post("/login?name=Ada")
    async with (
        create_socket_client(URL, headers=ada, decode=json.loads) as client1,
        create_socket_client(URL, headers=ada, decode=json.loads) as client2,
    ):
        for client in (client1, client2):
            await client.send_str("hello")
            await client.wait_for_message({"name": "Ada", "said": "hello"})
        for price in ("1.30", "fence"):
            await post(f"/price?price={price}")
        for client in (client1, client2):
            await client.wait_for_message({"price": "fence"})

    for client in (client1, client2):
        assert client.messages[1:] == [{"price": "1.30"}, {"price": "fence"}]


async def test_stranger_is_refused() -> None:
    async with create_socket_client(URL) as client:
        await client.wait_for_close(4401)


async def test_plain_def_has_its_thread() -> None:
    async with ClientSession() as session, session.get(f"{SITE}/price") as response:
        assert await response.json() == "1.20"


async def test_lifespan_ends(server: uvicorn.Server) -> None:
    assert PRICES
    await server.shutdown()
    assert not PRICES
