"""Integration tests of the WebSocket server."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .utils import (
    TIMEOUT,
    SocketState,
    compute_port,
    create_socket_client,
    start_server,
    wait_for_socket_state,
)

PORT = compute_port()
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

    replies = ["Übung", *["INVALID_MESSAGE"] * 3, "Übung", "Übung"]
    assert messages == [*replies, *["HI"] * 3]


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
