"""Integration tests of the WebSocket server: the article's four, and yours."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from step6_groups.server import create_websocket_server
from step6_groups.utils import (
    SocketState,
    compute_port,
    create_socket_client,
    start_server,
    wait_for_messages,
    wait_for_socket_state,
)

PORT = compute_port()


def create(name: str) -> dict[str, object]:
    return {"type": "CREATE_GROUP", "value": name}


def join(name: str) -> dict[str, object]:
    return {"type": "JOIN_GROUP", "value": name}


def message(name: str, text: object = "HI") -> dict[str, object]:
    value = {"groupName": name, "groupMessage": text}
    return {"type": "MESSAGE_GROUP", "value": value}


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server; pytest-aiohttp stops it after the test."""
    app = web.Application()
    create_websocket_server(app)
    return await start_server(aiohttp_server, app, PORT)


async def test_given_echo_server_sends_the_value_back_once() -> None:
    test_message = {"type": "ECHO", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(PORT, close_after=1) as (client, messages):
        # Send client message
        await client.send_json(test_message)
        await wait_for_socket_state(client, SocketState.CLOSED)

    # Perform assertions on the response
    assert messages == [test_message["value"]]


async def test_given_echo_times_3_server_sends_the_value_back_three_times() -> None:
    test_message = {"type": "ECHO_TIMES_3", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(PORT, close_after=3) as (client, messages):
        # Send client message
        await client.send_json(test_message)
        await wait_for_socket_state(client, SocketState.CLOSED)

    # Perform assertions on the response
    assert messages == [test_message["value"]] * 3


async def test_given_echo_to_all_server_sends_the_value_to_every_client_once() -> None:
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}

    # Create test clients
    async with (
        create_socket_client(PORT, close_after=1) as (client1, messages1),
        create_socket_client(PORT, close_after=1) as (client2, messages2),
        create_socket_client(PORT, close_after=1) as (client3, messages3),
    ):
        # Send client message
        await client1.send_json(test_message)
        await wait_for_socket_state(client1, SocketState.CLOSED)
        await wait_for_socket_state(client2, SocketState.CLOSED)
        await wait_for_socket_state(client3, SocketState.CLOSED)

    # Perform assertions on the responses
    assert messages1 == [test_message["value"]]
    assert messages2 == [test_message["value"]]
    assert messages3 == [test_message["value"]]


async def test_given_message_group_server_sends_it_to_members_once_only() -> None:
    # Create test clients
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(PORT, close_after=2) as (client2, messages2),
        create_socket_client(PORT) as (_, messages3),
    ):
        await client1.send_json(create("A"))
        await wait_for_messages(messages1, 1)
        await client2.send_json(join("A"))

        # Send client message
        await client2.send_json(message("A"))
        await wait_for_socket_state(client2, SocketState.CLOSED)

    # Perform assertions on the responses, without those that confirm a group
    assert messages1[1:] == ["HI"]
    assert messages2[1:] == ["HI"]
    assert messages3 == []
