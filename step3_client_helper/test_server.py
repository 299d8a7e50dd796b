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


async def test_server_echoes_the_message_it_receives_from_client() -> None:
    test_message = "This is a test message"

    # Create test client
    async with create_socket_client(PORT, close_after=1) as (client, messages):
        # Send client message
        await client.send_str(test_message)
        await wait_for_socket_state(client, SocketState.CLOSED)

    # Perform assertions on the response
    assert messages == [test_message]


async def test_echo_in_order() -> None:
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(PORT) as (client2, messages2),
        create_socket_client(PORT) as (client3, messages3),
    ):
        for text in TEXTS:
            await client3.send_str(text)
            await client2.send_bytes(text.encode())
            await client2.send_str(text)
        await client1.send_str("only this")

    assert messages1 == ["only this"]
    assert messages2 == [m for text in TEXTS for m in (text.encode(), text)]
    assert messages3 == TEXTS
