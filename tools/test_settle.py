"""Check what step 5's barrier proves, and what it does not.

It shows a leak, whichever client comes first, if the handler finishes with each message
before it calls `receive()` again, and sends nothing after its loop.

`python -m pytest tools/test_settle.py --count=100` repeats each case 100 times.
"""

import asyncio
from contextlib import suppress
from types import ModuleType

import pytest
from aiohttp import WSMsgType, web
from pytest_aiohttp import AiohttpServer
from step7_test_client import utils as utils7

from step3_client_helper import utils as utils3
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


def create_eager_room() -> web.Application:
    """Return a room whose handler reads ahead: more messages, for 5 milliseconds."""
    clients: set[web.WebSocketResponse] = set()

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        clients.add(socket)
        while not socket.closed:
            batch = [await socket.receive()]
            with suppress(TimeoutError):
                batch.append(await socket.receive(timeout=0.005))
            await asyncio.sleep(0.02)
            for client in list(clients):
                for message in batch:
                    if message.type is WSMsgType.TEXT and not client.closed:
                        await client.send_str(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    return app


def create_untidy_room(cleaning: float) -> web.Application:
    """Return a room that tells everybody a secret some seconds after a client left."""
    clients: set[web.WebSocketResponse] = set()

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        clients.add(socket)
        async for _ in socket:
            pass
        clients.discard(socket)
        await asyncio.sleep(cleaning)
        for client in list(clients):
            await client.send_str("secret")
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    return app


async def sees_leak(
    utils: ModuleType,
    aiohttp_server: AiohttpServer,
    app: web.Application,
    sender_leaves_first: bool = False,
) -> bool:
    """Tell whether an outsider's list shows the leak."""
    port = (await utils.start_server(aiohttp_server, app, 0)).port
    first, last = [utils.create_socket_client(port) for _ in range(2)]
    async with first as (client1, messages1), last as (client2, messages2):
        await (client2 if sender_leaves_first else client1).send_str("secret")
    return list(messages1 if sender_leaves_first else messages2) == ["secret"]


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


async def test_handler_that_reads_ahead_closes_before_it_answers(
    aiohttp_server: AiohttpServer,
) -> None:
    port = (await utils3.start_server(aiohttp_server, create_eager_room(), 0)).port
    async with utils3.create_socket_client(port or 0) as (client, messages):
        await client.send_str("hello")

    assert messages == []


async def test_handler_that_reads_ahead_hides_it(
    aiohttp_server: AiohttpServer,
) -> None:
    assert not await sees_leak(utils6, aiohttp_server, create_eager_room())


@pytest.mark.parametrize("cleaning", [0.02, 0.05])
async def test_clean_up_that_sends_hides_it(
    aiohttp_server: AiohttpServer, cleaning: float
) -> None:
    app = create_untidy_room(cleaning)
    assert not await sees_leak(utils6, aiohttp_server, app, sender_leaves_first=True)


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


@pytest.mark.parametrize(("handling", "lookup"), CASES)
async def test_barrier_of_step_7_shows_the_leak(
    aiohttp_server: AiohttpServer, handling: float, lookup: float
) -> None:
    app = create_leaky_room(handling, lookup)
    server = await utils7.start_server(aiohttp_server, app, 0)
    async with (
        utils7.create_socket_client(server.make_url("/")) as sender,
        utils7.create_socket_client(server.make_url("/")) as outsider,
    ):
        await sender.send_str("secret")

    assert outsider.messages == ["secret"]


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
