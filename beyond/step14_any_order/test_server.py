"""The same test of the server twice: on the network, and in any order of events."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from aiohttp import web
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .simulation import Connector, explore, explore_all, run_server
from .utils import TestWebSocket, compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"
Connect = Callable[[], AbstractAsyncContextManager[TestWebSocket]]


def create(name: str) -> dict[str, object]:
    return {"type": "CREATE_GROUP", "value": name}


def join(name: str) -> dict[str, object]:
    return {"type": "JOIN_GROUP", "value": name}


def message(name: str, text: str = "HI") -> dict[str, object]:
    value = {"groupName": name, "groupMessage": text}
    return {"type": "MESSAGE_GROUP", "value": value}


async def change_groups_during_a_message(connect: Connect) -> None:
    """Client 2 goes to another group while client 1 sends a message to its old one."""
    async with connect() as client1, connect() as client2:
        await client1.send_json(create("A"))
        await client1.wait_for_message("A")
        await client2.send_json(join("A"))
        await client2.wait_for_message("A")

        await client1.send_json(message("A"))
        await client2.send_json(create("B"))

    heard = client2.messages  # in group B, it must not hear what is said in A
    assert heard in (["A", "HI", "B"], ["A", "B"])


async def test_change_groups_on_the_network(aiohttp_server: AiohttpServer) -> None:
    app = web.Application()
    create_websocket_server(app)
    await start_server(aiohttp_server, app, PORT)

    await change_groups_during_a_message(partial(create_socket_client, URL))


async def change_groups() -> None:
    """Start a server in the simulation, and hold the conversation with it."""
    app = web.Application()
    create_websocket_server(app)
    async with run_server(app) as url:
        await change_groups_during_a_message(
            lambda: create_socket_client(url, connector=Connector())
        )


async def test_change_groups_in_any_order() -> None:
    await explore(change_groups)


async def test_change_groups_with_one_deviation() -> None:
    """Nothing goes wrong if any one step comes out of turn, or any one timer late."""
    stats = await explore_all(change_groups, deviations=1)
    assert stats.exhausted
