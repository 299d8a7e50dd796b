"""Check what step 5's barrier proves: a leak is seen, whichever client comes first.

`python -m pytest tools/test_settle.py --count=100` repeats each case 100 times.
"""

import asyncio
from types import ModuleType

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer
from step7_test_client import utils as utils7

from step4_multi_message import utils as utils4
from step5_broadcast import utils as utils5
from step6_groups import utils as utils6

CASES = [(0.0, 0.0), (0.02, 0.0), (0.05, 0.0), (0.0, 0.02), (0.02, 0.02)]  # seconds


def create_leaky_room(handling: float, lookup: float) -> web.Application:
    """Return a room whose messages go to its members, and to everybody else.

    `handling` is what a message takes, `lookup` what passes before a client is
    registered, in seconds.
    """
    clients: set[web.WebSocketResponse] = set()

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await asyncio.sleep(lookup)
        clients.add(socket)
        try:
            async for message in socket:
                await asyncio.sleep(handling)
                for client in list(clients):
                    await client.send_str(message.data)
        finally:
            clients.discard(socket)
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    return app


def create_late_room() -> web.Application:
    """Return a room that tells the first two clients at once, the others later."""
    clients: list[web.WebSocketResponse] = []

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        clients.append(socket)
        async for message in socket:
            for client in clients[:2]:
                await client.send_str(message.data)
            await asyncio.sleep(0.02)
            for client in clients[2:]:
                await client.send_str(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    return app


async def sees_leak(
    utils: ModuleType, aiohttp_server: AiohttpServer, app: web.Application
) -> bool:
    """Tell whether an outsider's list shows the leak; the sender is opened first."""
    port = (await utils.start_server(aiohttp_server, app, 0)).port
    async with (
        utils.create_socket_client(port) as (sender, _),
        utils.create_socket_client(port) as (_, outsider_messages),
    ):
        await sender.send_str("secret")
    return list(outsider_messages) == ["secret"]


@pytest.mark.parametrize("utils", [utils5, utils6], ids=["step5", "step6"])
@pytest.mark.parametrize(("handling", "lookup"), CASES)
async def test_barrier_shows_the_leak(
    aiohttp_server: AiohttpServer, utils: ModuleType, handling: float, lookup: float
) -> None:
    assert await sees_leak(utils, aiohttp_server, create_leaky_room(handling, lookup))


@pytest.mark.parametrize(("handling", "lookup"), CASES[1:])
async def test_handshake_alone_hides_it(
    aiohttp_server: AiohttpServer, handling: float, lookup: float
) -> None:
    app = create_leaky_room(handling, lookup)
    assert not await sees_leak(utils4, aiohttp_server, app)


@pytest.mark.parametrize("utils", [utils5, utils6], ids=["step5", "step6"])
async def test_barrier_waits_for_clients_that_have_said_goodbye(
    aiohttp_server: AiohttpServer, utils: ModuleType
) -> None:
    port = (await utils.start_server(aiohttp_server, create_late_room(), 0)).port
    async with (
        utils.create_socket_client(port, close_after=1) as (sender, _),
        utils.create_socket_client(port, close_after=1) as (hearer, _),
        utils.create_socket_client(port) as (_, outsider_messages),
    ):
        await sender.send_str("secret")
        await utils.wait_for_socket_state(hearer, utils.SocketState.CLOSED)

    assert outsider_messages == ["secret"]


async def test_barrier_of_step_7_waits_for_them_too(
    aiohttp_server: AiohttpServer,
) -> None:
    server = await utils7.start_server(aiohttp_server, create_late_room(), 0)
    async with (
        utils7.create_socket_client(server.make_url("/")) as sender,
        utils7.create_socket_client(server.make_url("/")),
        utils7.create_socket_client(server.make_url("/")) as outsider,
    ):
        await sender.send_str("secret")
        await sender.wait_for_message("secret")
        await sender.send_close()

    assert outsider.messages == ["secret"]
