"""Integration tests of the WebSocket server."""

import asyncio
from socket import SHUT_RDWR

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .utils import (
    SocketState,
    compute_port,
    create_socket_client,
    start_server,
    wait_for_socket_state,
)

PORT = compute_port()
INVALID_MESSAGES = {
    "no JSON": "This is a test message",
    "nested too deeply": "[" * 100_000,
    "a number": "1",
    "null": "null",
    "a list": '["ECHO", "HI"]',
    "no type": '{"value": "HI"}',
    "type a list": '{"type": ["ECHO"], "value": "HI"}',
    "unknown type": '{"type": "echo", "value": "HI"}',
    "no value": '{"type": "ECHO"}',
    "ECHO a number": '{"type": "ECHO", "value": 1}',
    "NaN": '{"type": "ECHO", "value": "HI", "more": NaN}',
    "half a character": '{"type": "ECHO", "value": "\\ud800"}',
    "ECHO_TIMES_3 null": '{"type": "ECHO_TIMES_3", "value": null}',
    "ECHO_TO_ALL an object": '{"type": "ECHO_TO_ALL", "value": {}}',
}


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server; pytest-aiohttp stops it after the test."""
    return await start_server(aiohttp_server, PORT)


async def test_given_echo_server_sends_the_value_back_once() -> None:
    test_message = {"type": "ECHO", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(PORT, close_after=1) as (client, messages):
        # Send client message
        await client.send_json(test_message)
        await wait_for_socket_state(client, SocketState.CLOSED)

    # Perform assertions on the response
    assert messages == [test_message["value"]]


async def test_server_echoes_several_messages_in_order() -> None:
    # Create test clients
    async with (
        create_socket_client(PORT) as (_, other_messages),
        create_socket_client(PORT) as (client, messages),
    ):
        # Send client messages
        await client.send_json({"type": "ECHO", "value": "first"})
        await client.send_json({"type": "ECHO", "value": " second "})
        await client.send_json({"type": "ECHO", "value": ""})

    # Perform assertions on the responses
    assert messages == ["first", " second ", ""]
    assert other_messages == []


async def test_given_a_binary_frame_server_reads_the_utf_8_text_in_it() -> None:
    test_message = '{"type": "ECHO", "value": "Übung"}'

    # Create test client
    async with create_socket_client(PORT) as (client, messages):
        # Send client messages
        await client.send_bytes(test_message.encode("utf-8"))
        await client.send_bytes(test_message.encode("utf-16"))

    # Perform assertions on the responses
    assert messages == ["Übung", "INVALID_MESSAGE"]


async def test_given_echo_times_3_server_sends_the_value_back_three_times() -> None:
    test_message = {"type": "ECHO_TIMES_3", "value": "This is a test message"}

    # Create test clients
    async with (
        create_socket_client(PORT) as (_, other_messages),
        create_socket_client(PORT) as (client, messages),
    ):
        # Send client message
        await client.send_json(test_message)

    # Perform assertions on the responses
    assert messages == [test_message["value"]] * 3
    assert other_messages == []


@pytest.mark.parametrize(
    "invalid_message", INVALID_MESSAGES.values(), ids=INVALID_MESSAGES
)
async def test_given_an_invalid_message_server_says_so_and_goes_on(
    invalid_message: str,
) -> None:
    # Create test clients
    async with (
        create_socket_client(PORT) as (_, other_messages),
        create_socket_client(PORT) as (client, messages),
    ):
        # Send client messages
        await client.send_str(invalid_message)
        await client.send_json({"type": "ECHO", "value": "still here"})

    # Perform assertions on the responses
    assert messages == ["INVALID_MESSAGE", "still here"]
    assert other_messages == []


async def test_given_echo_to_all_server_sends_the_value_to_every_client_once() -> None:
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}

    # Create test clients
    async with (
        create_socket_client(PORT, close_after=1) as (client1, messages1),
        create_socket_client(PORT) as (_, messages2),
        create_socket_client(PORT) as (_, messages3),
    ):
        # Send client message
        await client1.send_json(test_message)
        # The sender's goodbye is answered when everybody has been sent the message.
        await wait_for_socket_state(client1, SocketState.CLOSED)

    # Perform assertions on the responses
    assert messages1 == [test_message["value"]]
    assert messages2 == [test_message["value"]]
    assert messages3 == [test_message["value"]]


async def test_clients_that_leave_or_vanish_spoil_a_broadcast_for_nobody() -> None:
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}
    url = f"ws://127.0.0.1:{PORT}"

    # Create test clients
    async with create_socket_client(PORT):
        pass  # this one has left
    async with (
        create_socket_client(PORT, close_after=1) as (client1, messages1),
        asyncio.timeout(2),  # ws_connect alone would wait for minutes
        ClientSession() as session,
    ):
        # The server keeps no order: so some come before client2, and some after it.
        vanishing_clients = [await session.ws_connect(url) for _ in range(5)]
        async with create_socket_client(PORT) as (_, messages2):
            vanishing_clients += [await session.ws_connect(url) for _ in range(5)]

            # Send client message
            await client1.send_json(test_message)
            # The server hears of it all at once: the message, and ten clients cut off.
            for client in vanishing_clients:
                client.get_extra_info("socket").shutdown(SHUT_RDWR)
            await wait_for_socket_state(client1, SocketState.CLOSED)

    # Perform assertions on the responses
    assert messages1 == [test_message["value"]]
    assert messages2 == [test_message["value"]]
