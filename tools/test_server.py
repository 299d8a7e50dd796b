"""Check what a server's own tests cannot see: that it forgets, and that it goes on."""

import asyncio
import gc
from collections.abc import Callable
from functools import partial
from importlib import import_module
from socket import SHUT_RDWR

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, web
from pytest_aiohttp import AiohttpServer

STEPS = [
    "step5_broadcast",
    "step6_groups",
    "beyond.step7_test_client",
    "beyond.step8_any_conversation",
    "beyond.step9_group_ids",
]
LATER = ["beyond.step10_bad_clients", "beyond.step11_many_processes"]
Create = Callable[[web.Application], None]
CREATE = {"type": "CREATE_GROUP", "value": "A"}
JOIN = {"type": "JOIN_GROUP", "value": "A"}
LONG = "x" * 3_000_000  # a few of these are more than the buffers on the way hold
TO_ALL = {"type": "ECHO_TO_ALL", "value": LONG}
TO_GROUP = {"type": "MESSAGE_GROUP", "value": {"groupName": "A", "groupMessage": LONG}}


def find(step: str) -> Create:
    """Return the `create_websocket_server` of a step."""
    server = import_module(f"{step}.server")
    create: Create = server.create_websocket_server
    if step in LATER:  # they forget who has vanished when they would ping it
        return partial(
            server.create_websocket_server, limits=server.Limits(heartbeat=1)
        )
    return create


def count_connections() -> int:
    """Return how many connections servers in this process keep."""
    gc.collect()
    return sum(issubclass(type(x), web.WebSocketResponse) for x in gc.get_objects())


@pytest.mark.parametrize("vanish", [False, True], ids=["close", "vanish"])
@pytest.mark.parametrize("step", [*STEPS, *LATER])
async def test_server_forgets_clients_that_have_gone(
    aiohttp_server: AiohttpServer, step: str, vanish: bool
) -> None:
    app = web.Application()
    find(step)(app)
    server = await aiohttp_server(app)
    async with asyncio.timeout(5), ClientSession() as session:
        clients = [await session.ws_connect(server.make_url("/")) for _ in range(5)]
        for client in clients:
            await client.send_json(CREATE)
            await client.send_json(JOIN)
            await client.receive()
            await client.receive()
        assert count_connections() == 5
        for client in clients:
            if vanish:  # so that the answer fails
                await client.send_json(JOIN)
                client.get_extra_info("socket").shutdown(SHUT_RDWR)
            await client.close()
        while count_connections():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("step", "request_"),
    [*[(step, TO_ALL) for step in STEPS], *[(step, TO_GROUP) for step in STEPS[1:4]]],
)
async def test_broadcast_goes_on_while_clients_come_and_go(
    aiohttp_server: AiohttpServer, step: str, request_: object
) -> None:
    app = web.Application()
    find(step)(app)
    server = await aiohttp_server(app, shutdown_timeout=0.1)
    async with asyncio.timeout(9), ClientSession() as session:

        async def connect(session: ClientSession = session) -> ClientWebSocketResponse:
            client = await session.ws_connect(server.make_url("/"))
            await client.send_json(CREATE)
            await client.send_json(JOIN)
            await client.receive()
            await client.receive()
            return client

        sender = await connect()
        stalled_session = ClientSession()
        _stalled = await connect(stalled_session)  # it reads no more

        async def listen(client: ClientWebSocketResponse) -> None:
            async for _ in client:
                pass

        async def converse() -> list[bool]:
            sending = asyncio.gather(*[sender.send_json(request_) for _ in range(10)])
            received = [LONG in (await sender.receive()).data for _ in range(10)]
            await sending
            return received

        conversation = asyncio.create_task(converse())
        await asyncio.sleep(0.5)  # by now, the server waits for the stalled one
        newcomers = [await connect() for _ in range(3)]
        listening = [asyncio.create_task(listen(client)) for client in newcomers]
        await stalled_session.close()
        assert await conversation == [True] * 10
    await asyncio.wait(listening)
