"""Produce each message that the page on troubleshooting explains."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import pytest
from aiohttp import WSMsgType, web
from pytest_aiohttp import AiohttpServer

from step6_groups.utils import (
    SocketState,
    create_socket_client,
    start_server,
    wait_for_messages,
    wait_for_socket_state,
)
from tools.test_utils import create_app, report

PAGE = Path("docs/troubleshooting.md").read_text()
MESSAGES = re.findall(r"^\| `(.*?)` \|", PAGE, re.MULTILINE)
Serve = Callable[[web.WebSocketResponse], Awaitable[object]]


async def echo(socket: web.WebSocketResponse) -> None:
    """Echo, and answer the close frame."""
    while (message := await socket.receive()).type is WSMsgType.TEXT:
        await socket.send_str(message.data)
    await socket.close()


async def deaf(_: web.WebSocketResponse) -> None:
    """Read nothing."""
    await asyncio.sleep(9)


async def deaf_later(socket: web.WebSocketResponse) -> None:
    """Do not answer the close frame."""
    await socket.receive()
    await asyncio.sleep(9)


async def close(socket: web.WebSocketResponse) -> None:
    """Close at once."""
    await socket.close(code=1011)


async def abort(socket: web.WebSocketResponse) -> None:
    """Hang up when somebody has spoken."""
    await socket.receive()
    assert socket._req
    assert socket._req.transport
    socket._req.transport.abort()


async def send_too_much(socket: web.WebSocketResponse) -> None:
    """Send a message that is too large when somebody has spoken."""
    await socket.receive()
    await socket.send_bytes(bytes(5_000_000))


async def send_no_text(socket: web.WebSocketResponse) -> None:
    """Send a text frame that is not text when somebody has spoken."""
    await socket.receive()
    await socket.send_frame(b"\xff", WSMsgType.TEXT)


async def leave(port: int) -> None:
    """Connect, say something, and leave."""
    async with create_socket_client(port) as (client, messages):
        await client.send_str("HI")
        await wait_for_messages(messages, 1)


async def connect(port: int) -> None:
    """Connect, and leave."""
    async with create_socket_client(port):
        pass


async def wait_for_close(port: int) -> None:
    """Wait for a close that nobody has asked for."""
    async with create_socket_client(port) as (client, _):
        await wait_for_socket_state(client, SocketState.CLOSED)


async def wait_for_second_message(port: int) -> None:
    """Wait for one message more than there are."""
    async with create_socket_client(port) as (client, messages):
        await client.send_str("HI")
        await wait_for_messages(messages, 2)


async def close_client(port: int) -> None:
    """Close the client itself."""
    async with create_socket_client(port) as (client, _):
        await client.close()


async def receive(port: int) -> None:
    """Receive beside the listener."""
    async with create_socket_client(port) as (client, _):
        await client.receive()


async def connect_to_deaf_port(_: int) -> None:
    """Connect to what never answers."""
    with create_server(("127.0.0.1", 0)) as server:
        await connect(server.getsockname()[1])


async def connect_elsewhere(port: int) -> None:
    """Connect to a path that there is not."""
    await connect(f"{port}/elsewhere")  # type: ignore[arg-type]


SCENES: dict[str, tuple[Serve, Callable[[int], Awaitable[None]]]] = {
    "waited 1 s for the socket to be CLOSED": (echo, wait_for_close),
    "waited 1 s for 2 message(s)": (echo, wait_for_second_message),
    "the connection ended before message 2": (abort, wait_for_second_message),
    "waited 1 s for the server to open the connection": (echo, connect_to_deaf_port),
    "WSServerHandshakeError": (echo, connect_elsewhere),
    "waited 1 s for the server to answer a ping": (deaf, connect),
    "waited 1 s for the server's close frame": (deaf_later, connect),
    "the server closed before the client's close frame, with code …": (close, connect),
    "the connection ended …: no close frame": (abort, leave),
    "the connection ended …: Message size … exceeds limit …": (send_too_much, leave),
    "the connection ended …: Invalid UTF-8 text message": (send_no_text, leave),
    "the test called close(), which throws messages away": (echo, close_client),
    "Concurrent call to receive() is not allowed": (echo, receive),
}
GUARD = """
import asyncio

from aiohttp import web

from step3_client_helper.test_server import PORT, no_server_errors
from step3_client_helper.utils import create_socket_client, start_server


async def test_guard(no_server_errors, aiohttp_server):
    async def handle(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        {fault}

    app = web.Application()
    app.router.add_get("/", handle)
    await start_server(aiohttp_server, app, PORT)
    async with create_socket_client(PORT):
        pass
"""
FAULTS = {
    "aiohttp.server logged: …": "raise KeyError",
    "still running: <coroutine …>": "await asyncio.Event().wait()",
}


@contextmanager
def shows(message: str) -> Iterator[None]:
    """Check that a block fails with a message."""
    with pytest.raises(BaseException) as failure:  # noqa: PT011
        yield
    pattern = ".*".join(map(re.escape, message.split("…")))
    text = f"{type(failure.value).__name__} {report(failure)}"
    assert re.search(pattern, text, re.DOTALL), text


@pytest.mark.parametrize("message", SCENES)
async def test_message_of_a_client(aiohttp_server: AiohttpServer, message: str) -> None:
    serve, converse = SCENES[message]
    server = await start_server(aiohttp_server, create_app(serve), 0)
    with shows(message):
        await converse(server.port or 0)


@pytest.mark.parametrize("message", FAULTS)
def test_message_of_the_guard(tmp_path: Path, message: str) -> None:
    test = tmp_path / "test_guard.py"
    test.write_text(GUARD.format(fault=FAULTS[message]))
    options = ["-p", "no:cacheprovider", "-c", "pyproject.toml", "-o", "pythonpath=."]
    command = [sys.executable, "-m", "pytest", *options, str(test)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    pattern = ".*".join(map(re.escape, message.split("…")))
    assert re.search(pattern, result.stdout), result.stdout


async def test_message_about_a_port(aiohttp_server: AiohttpServer) -> None:
    with create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        with shows(f"no server on port {port} (BASE_PORT sets another)"):
            await start_server(aiohttp_server, web.Application(), port)


def test_message_about_base_port() -> None:
    command = ["make", "step1", "BASE_PORT=abc"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "BASE_PORT is not a number" in result.stdout


def test_message_about_an_old_python(tmp_path: Path) -> None:
    python = tmp_path / "python3.9"
    python.write_text('#!/bin/sh\ncase "$2" in *version_info*) exit 1;; esac\n')
    python.chmod(0o755)
    command = [
        "make",
        f".venv/from-{str(python).replace('/', '-')}",
        f"PYTHON={python}",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "This needs Python 3.11 or later" in result.stderr


def test_every_message_is_produced() -> None:
    elsewhere = {
        "no server on port 3003 (BASE_PORT sets another)",
        "BASE_PORT is not a number",
        "This needs Python 3.11 or later",
    }
    assert {*SCENES, *FAULTS} | elsewhere == {*MESSAGES}
