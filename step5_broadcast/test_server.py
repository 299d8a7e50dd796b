"""Integration tests of the WebSocket server."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from socket import AF_INET, SHUT_RDWR, SOCK_STREAM, fromfd
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSCloseCode, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .utils import (
    TIMEOUT,
    SocketState,
    bounded,
    compute_port,
    create_socket_client,
    settle,
    start_server,
    wait_for_socket_state,
)

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"
TEXTS = [
    "first",
    "first",
    "",
    " <b>Cafe\u0301</b>\r\n\0🎉 ",
    '{"type": "ECHO", "value": "HI"}',
    "INVALID_MESSAGE",
    "x" * 126,  # from 126 bytes on, the header of a frame is longer
    "y" * 65_536,  # and longer still from 65,536 bytes on
    "last",
]
INVALID_MESSAGES = {
    "empty": "",
    "not JSON": "This is a test message",
    "single quotes": "{'type': 'ECHO', 'value': 'HI'}",
    "nested too deeply": '{"type": "ECHO", "value": ' + "[" * 100_000,
    "null": "null",
    "a number": "1",
    "a string": r'"{\"type\": \"ECHO\", \"value\": \"HI\"}"',
    "a list": '[{"type": "ECHO", "value": "HI"}]',
    "an object and more": '{"type": "ECHO", "value": "HI"} {}',
    "NaN": '{"type": "ECHO", "value": "HI", "more": NaN}',
    "lone surrogate": r'{"type": "ECHO", "value": "\ud800"}',
    "no type": '{"value": "HI"}',
    "type a list": '{"type": ["ECHO"], "value": "HI"}',
    "type unknown": '{"type": "UNKNOWN", "value": "HI"}',
    "type in small letters": '{"type": "echo", "value": "HI"}',
    "type with a space": '{"type": "ECHO ", "value": "HI"}',
    "no value": '{"type": "ECHO"}',
    "ECHO a number": '{"type": "ECHO", "value": 1}',
    "ECHO true": '{"type": "ECHO", "value": true}',
    "ECHO a list": '{"type": "ECHO", "value": ["HI"]}',
    "ECHO an object": '{"type": "ECHO", "value": {"value": "HI"}}',
    "ECHO null": '{"type": "ECHO", "value": null}',
    "ECHO_TIMES_3 no value": '{"type": "ECHO_TIMES_3"}',
    "ECHO_TIMES_3 a number": '{"type": "ECHO_TIMES_3", "value": 1}',
    "ECHO_TIMES_3 null": '{"type": "ECHO_TIMES_3", "value": null}',
    "ECHO_TO_ALL no value": '{"type": "ECHO_TO_ALL"}',
    "ECHO_TO_ALL a number": '{"type": "ECHO_TO_ALL", "value": 1}',
    "ECHO_TO_ALL null": '{"type": "ECHO_TO_ALL", "value": null}',
    "ECHO_TO_ALL an object": '{"type": "ECHO_TO_ALL", "value": {}}',
}


@pytest.fixture
async def no_server_errors(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fail the test if the server has logged an error, or left a task running.

    Request it before the server: then it checks when the server has stopped.
    """
    before = asyncio.all_tasks()  # those of a server that outlives the test
    yield
    tasks = asyncio.all_tasks() - before - {asyncio.current_task()}
    if tasks:  # a handler may still be cleaning up
        await asyncio.wait(tasks, timeout=TIMEOUT / 4)
    problems = [f"still running: {t.get_coro()}" for t in tasks if not t.done()]
    for phase in ("setup", "call", "teardown"):
        for record in caplog.get_records(phase):
            if record.levelno >= logging.ERROR:
                cause = record.exc_info[1] if record.exc_info else None
                problems.append(
                    f"{record.name} logged: {record.getMessage()}, {cause!r}"
                )
    if problems:
        pytest.fail("\n".join(dict.fromkeys(problems)), pytrace=False)  # each once


@pytest.fixture(autouse=True)
async def server(no_server_errors: None, aiohttp_server: AiohttpServer) -> TestServer:
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


async def test_replies_go_to_their_client_in_order() -> None:
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(PORT) as (client2, messages2),
        create_socket_client(PORT) as (client3, messages3),
    ):
        for text in TEXTS:
            await client3.send_json({"type": "ECHO", "value": text})
            await client2.send_json({"type": "ECHO_TIMES_3", "value": text})
            await client2.send_json({"type": "ECHO", "value": "once"})
        await client1.send_json({"type": "ECHO_TIMES_3", "value": "only this"})
        await client1.send_json({"type": "ECHO", "value": "and this"})

    assert messages1 == ["only this", "only this", "only this", "and this"]
    assert messages2 == [m for text in TEXTS for m in (text, text, text, "once")]
    assert messages3 == TEXTS


async def test_binary_frame_with_json() -> None:
    request = ' {"value":"Übung" , "more": [1.5], "type": "ECHO"}\n'

    async with create_socket_client(PORT) as (client, messages):
        await client.send_bytes(request.encode("utf-8"))
        await client.send_bytes(request.encode("utf-16"))
        await client.send_bytes(request.encode("latin-1"))
        await client.send_bytes(b"")
        await client.send_str(request)
        await client.send_bytes(request.encode("utf-8"))
        await client.send_bytes(b'{"type": "ECHO_TIMES_3", "value": "HI"}')
        await client.send_bytes(b'{"type": "ECHO_TO_ALL", "value": "HI"}')

    replies = ["Übung", *["INVALID_MESSAGE"] * 3, "Übung", "Übung"]
    assert messages == [*replies, *["HI"] * 4]


@pytest.mark.parametrize(
    "invalid_message", INVALID_MESSAGES.values(), ids=INVALID_MESSAGES
)
async def test_invalid_message(invalid_message: str) -> None:
    async with create_socket_client(PORT) as (other, other_messages):
        async with create_socket_client(PORT, close_after=6) as (client, messages):
            for _ in range(3):
                await client.send_str(invalid_message)
                await client.send_json({"type": "ECHO", "value": "still here"})
            await wait_for_socket_state(client, SocketState.CLOSED)
        await other.send_json({"type": "ECHO", "value": "me too"})

    assert messages == ["INVALID_MESSAGE", "still here"] * 3
    assert other_messages == ["me too"]


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


async def test_broadcast_to_whoever_is_connected() -> None:
    async with create_socket_client(PORT) as (client1, messages1):
        for _ in range(2):
            async with (
                create_socket_client(PORT) as (client2, messages2),
                create_socket_client(PORT) as (client3, messages3),
            ):
                await client2.send_json({"type": "ECHO_TIMES_3", "value": "for 2"})
                for text in TEXTS:
                    await client2.send_json({"type": "ECHO_TO_ALL", "value": text})
                await client2.send_json({"type": "ECHO", "value": "for 2"})
                await settle(client2)
                await client3.send_json({"type": "ECHO_TO_ALL", "value": "from 3"})
            assert messages2 == [*["for 2"] * 3, *TEXTS, "for 2", "from 3"]
            assert messages3 == [*TEXTS, "from 3"]
        await client1.send_str("This is an invalid message")
        await client1.send_json({"type": "ECHO_TO_ALL", "value": "for who is left"})

    news = [*TEXTS, "from 3"]
    assert messages1 == [*news, *news, "INVALID_MESSAGE", "for who is left"]


def cut_off(client: ClientWebSocketResponse) -> None:
    """End the connection without a close frame, as a client that crashes does."""
    fileno = client.get_extra_info("socket").fileno()
    with fromfd(fileno, AF_INET, SOCK_STREAM) as connection:
        connection.shutdown(SHUT_RDWR)


async def test_broadcast_skips_disconnected_clients() -> None:
    """Ten clients vanish during a broadcast; the two that stay miss nothing."""
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}

    async with (
        create_socket_client(PORT) as (client1, messages1),
        asyncio.timeout(2 * TIMEOUT),  # ws_connect() itself would wait for minutes
        ClientSession() as session,
    ):
        # A set has no order: with ten, some come before client2 and some after it.
        vanishing_clients = [await session.ws_connect(URL) for _ in range(5)]
        async with create_socket_client(PORT) as (client2, messages2):
            vanishing_clients += [await session.ws_connect(URL) for _ in range(5)]

            # The server sees all of this at once. One vanishes while it is answered.
            await client1.send_json(test_message)
            await vanishing_clients[0].send_json({"type": "ECHO_TIMES_3", "value": ""})
            for client in vanishing_clients:
                cut_off(client)
            await settle(client1)
            await client2.send_json(test_message)

    assert messages1 == [test_message["value"]] * 2
    assert messages2 == [test_message["value"]] * 2


async def test_client_comes_while_a_broadcast_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}
    is_waiting, may_go_on = asyncio.Event(), asyncio.Event()
    send_str = web.WebSocketResponse.send_str

    async def slow_send_str(*args: Any, **options: Any) -> None:
        is_waiting.set()
        await may_go_on.wait()
        await send_str(*args, **options)

    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(PORT) as (_, messages2),
    ):
        # From now on each send has to wait, as if the client's buffers were full.
        monkeypatch.setattr(web.WebSocketResponse, "send_str", slow_send_str)
        await client1.send_json(test_message)
        await bounded(is_waiting.wait(), "the server to send")
        async with create_socket_client(PORT):
            may_go_on.set()

    assert messages1 == messages2 == [test_message["value"]]


def count_connections() -> int:
    """Return how many connections the servers in this process still hold."""
    gc.collect()
    kinds = (web.BaseRequest, web.WebSocketResponse)
    return sum(issubclass(type(it), kinds) for it in gc.get_objects())


async def test_server_forgets_clients_that_have_gone() -> None:
    connections = count_connections()

    async with (
        create_socket_client(PORT),
        asyncio.timeout(2 * TIMEOUT),
        ClientSession() as session,
    ):
        async with session.get(f"http://127.0.0.1:{PORT}") as response:
            assert response.status == HTTPStatus.BAD_REQUEST  # it is not a handshake
        client2, client3, client4 = [await session.ws_connect(URL) for _ in range(3)]
        assert count_connections() > connections  # so it counts this server's
        await client2.close(code=WSCloseCode.GOING_AWAY)
        cut_off(client3)
        await client4.send_json({"type": "ECHO_TIMES_3", "value": "HI"})
        cut_off(client4)  # while the server answers it

    async def forget() -> None:
        while count_connections() > connections:
            await asyncio.sleep(0.001)

    await bounded(forget(), "the server to forget its clients")


async def test_servers_share_nothing(aiohttp_server: AiohttpServer) -> None:
    other_app = web.Application()
    create_websocket_server(other_app)
    other_server = await start_server(aiohttp_server, other_app, 0)
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(other_server.port or 0) as (client2, messages2),
    ):
        await client1.send_json({"type": "ECHO_TO_ALL", "value": "HI"})
        await client2.send_json({"type": "ECHO_TO_ALL", "value": "HO"})

    assert messages1 == ["HI"]
    assert messages2 == ["HO"]
