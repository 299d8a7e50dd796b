"""Produce each message that the page on troubleshooting explains."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy
from socket import create_server

import pytest
from aiohttp import WSMsgType, web
from pytest_aiohttp import AiohttpServer
from step7_test_client import utils as step7

from step3_client_helper import utils as utils3
from step6_groups.utils import (
    SocketState,
    create_socket_client,
    settle,
    start_server,
    wait_for_messages,
    wait_for_socket_state,
)
from tools.test_recipes import build, run
from tools.test_utils import create_app, report

PAGE = Path("docs/troubleshooting.md").read_text()
MESSAGES = re.findall(r"^\| `(.*?)` \|", PAGE, re.MULTILINE)
OPTIONS = ["-p", "no:cacheprovider", "-c", "pyproject.toml", "-o", "pythonpath=."]
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


async def fail(socket: web.WebSocketResponse) -> None:
    """Answer the close frame with another code."""
    await socket.receive()
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


async def connect(port: int | str) -> None:
    """Connect, and leave."""
    async with create_socket_client(port):  # type: ignore[arg-type]
        pass


async def connect_step7(port: int | str) -> None:
    """Do the same with step 7's client."""
    async with step7.create_socket_client(f"ws://127.0.0.1:{port}"):
        pass


async def wait_for_close(port: int) -> None:
    """Wait for a close that nobody has asked for."""
    async with create_socket_client(port) as (client, _):
        await wait_for_socket_state(client, SocketState.CLOSED)


async def wait_to_be_open(port: int) -> None:
    """Wait for a connection to be open that has ended."""
    async with create_socket_client(port) as (client, _):
        await wait_for_socket_state(client, SocketState.OPEN)


async def wait_for_second_message(port: int) -> None:
    """Wait for one message more than there are."""
    async with create_socket_client(port) as (client, messages):
        await client.send_str("HI")
        await wait_for_messages(messages, 2)


async def close_client(port: int) -> None:
    """Close the client itself."""
    async with create_socket_client(port) as (client, _):
        await client.close()


async def settle_late(port: int) -> None:
    """Settle a client whose block has ended."""
    async with create_socket_client(port) as (client, _):
        pass
    await settle(client)


async def receive(port: int) -> None:
    """Receive beside the listener."""
    async with create_socket_client(port) as (client, _):
        await client.receive()


async def settle_late7(client: step7.TestWebSocket) -> None:
    """Settle when the block has ended."""
    step7.open_clients.remove(client)
    try:
        await client.settle()
    finally:
        step7.open_clients.append(client)


async def nothing(_: step7.TestWebSocket) -> None:
    """Leave at once."""


async def speak(client: step7.TestWebSocket) -> None:
    """Say something, and leave."""
    await client.send_str("HI")


async def send_late(client: step7.TestWebSocket) -> None:
    """Send a message after the close frame."""
    await client.close()
    await client.send_str("HI")


async def send_much(client: step7.TestWebSocket) -> None:
    """Send 100 MB."""
    for _ in range(100):
        await client.send_bytes(bytes(1_000_000))


async def unpack(client: object) -> None:
    """Take a client of step 7 for the pair that step 6 has."""
    _, _ = client  # type: ignore[misc]


SCENES: dict[str, tuple[Serve, Callable[[int], Awaitable[None]]]] = {
    "waited 1 s for the socket to be CLOSED": (echo, wait_for_close),
    "waited 1 s for 2 message(s)": (echo, wait_for_second_message),
    "the connection ended before message 2": (abort, wait_for_second_message),
    "the socket is CLOSED, not OPEN": (close, wait_to_be_open),
    "waited 1 s for the server to handle all that client 1 sent": (deaf, connect),
    "waited 1 s for the server's close frame": (deaf_later, connect),
    "the server closed with …, before the client's close frame": (close, connect),
    "the server closed with …, after the client's close frame": (fail, connect),
    "no close frame came (CLOSED)": (abort, leave),
    "no close frame came (Message size … exceeds limit …)": (send_too_much, leave),
    "no close frame came (Invalid UTF-8 text message)": (send_no_text, leave),
    "no close frame came (CLOSING)": (echo, close_client),
    "settle() knows only clients whose block has not ended": (echo, settle_late),
    "Concurrent call to receive() is not allowed": (echo, receive),
}
STEP7_SCENES: dict[
    str, tuple[Serve, Callable[[step7.TestWebSocket], Awaitable[object]]]
] = {
    "waited 1 s for 2 message(s)": (echo, lambda c: c.wait_for_message_count(2)),
    "waited for 2 message(s)": (close, lambda c: c.wait_for_message_count(2)),
    "waited 1 s for the message …": (echo, lambda c: c.wait_for_message("HI")),
    "waited for the message …": (close, lambda c: c.wait_for_message("HI")),
    "waited 1 s for the connection to be CLOSED": (
        echo,
        lambda c: c.wait_until(step7.SocketState.CLOSED),
    ),
    "waited for the connection to be OPEN": (
        close,
        lambda c: c.wait_until(step7.SocketState.OPEN),
    ),
    "waited 1 s for the server to close with code …": (
        echo,
        lambda c: c.wait_for_close(4001),
    ),
    "waited for the server to close with code …": (
        close,
        lambda c: c.wait_for_close(4001),
    ),
    "waited 1 s for the server to answer a ping": (deaf, nothing),
    "waited 1 s for the server to read": (deaf_later, send_much),
    "waited 1 s for the server's close frame": (deaf_later, nothing),
    "the server closed before the client's close frame, with code …": (close, nothing),
    "the server closed after the client's close frame, with code …": (fail, nothing),
    "the connection ended …: no close frame": (abort, speak),
    "the connection ended …: Message size … exceeds limit …": (send_too_much, speak),
    "the connection ended …: Invalid UTF-8 text message": (send_no_text, speak),
    "its last message cannot be decoded": (echo, speak),
    "it listens by itself": (echo, lambda c: c.receive()),
    "the test sends a message after the close frame": (echo, send_late),
    "settle() works only inside the block of create_socket_client()": (
        echo,
        settle_late7,
    ),
    "cannot unpack non-iterable TestWebSocket object": (echo, unpack),
}
GUARD = """
import asyncio
import logging

from aiohttp import web

from .utils import compute_port, create_socket_client, start_server


async def fail():
    raise KeyError


async def test_guard(aiohttp_server):
    async def handle(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        {fault}
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    await start_server(aiohttp_server, app, compute_port())
    async with create_socket_client(compute_port()):
        pass
"""
TAKEN = """
import sys

from aiohttp import web

sys.path.insert(0, "beyond")
from step7_test_client.utils import start_server


async def test_taken_port(aiohttp_server):
    await start_server(aiohttp_server, web.Application(), {port})
"""
FAULTS = {
    "aiohttp.server logged: …": "raise KeyError",
    "asyncio logged: Task exception was never retrieved": "asyncio.create_task(fail())",
    "still running: <coroutine …>": "await asyncio.Event().wait()",
    "… must not log errors: this guard sees none": "logging.disable(logging.ERROR)",
}
LEFT = "    except WebSocketDisconnect:\n        pass\n"
UVICORN = {
    "uvicorn did not start": ("    yield\n", "    raise OSError\n    yield\n"),
    "uvicorn.error logged: …": (LEFT, LEFT.replace("pass", "raise KeyError")),
    "Cancel … running task(s)": (
        LEFT,
        LEFT.replace("pass", "await __import__('asyncio').Event().wait()"),
    ),
}
SETTINGS: dict[str, tuple[str, ...]] = {
    "async def functions are not natively supported": (
        "async def test_one(): pass",
        "--override-ini=asyncio_mode=strict",
    ),
    "… requested an async fixture …": (
        "import pytest\n"
        "@pytest.fixture\n"
        "async def one(): pass\n"
        "def test_one(one): pass\n",
        "--override-ini=asyncio_mode=strict",
    ),
    "fixture 'aiohttp_server' not found": (
        "def test_one(aiohttp_server): pass",
        "-pno:aiohttp",
    ),
    "attempted relative import with no known parent package": (
        "from .utils import start_server",
    ),
}


@contextmanager
def shows(message: str) -> Iterator[None]:
    """Check that a block fails with a message."""
    with pytest.raises(BaseException) as failure:  # noqa: PT011
        yield
    check(f"{type(failure.value).__name__} {report(failure)}", message)


def check(text: str, message: str) -> None:
    """Check that a text contains a message."""
    pattern = ".*".join(map(re.escape, message.split("…")))
    assert re.search(pattern, text, re.DOTALL), text


def run_pytest(text: str, test: Path, *options: str) -> str:
    """Return the report on a file of tests."""
    test.write_text(text)
    command = [sys.executable, "-m", "pytest", *OPTIONS, *options, str(test)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout


def run_step(step: int, *variables: str) -> str:
    """Return what `make` prints on the tests of a step."""
    command = ["make", f"step{step}", *variables]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


@pytest.mark.parametrize("message", SCENES)
async def test_message_of_a_client(aiohttp_server: AiohttpServer, message: str) -> None:
    serve, converse = SCENES[message]
    server = await start_server(aiohttp_server, create_app(serve), 0)
    with shows(message):
        await converse(server.port or 0)


@pytest.mark.parametrize("message", STEP7_SCENES)
async def test_message_of_a_step7_client(
    aiohttp_server: AiohttpServer, message: str
) -> None:
    serve, use = STEP7_SCENES[message]
    server = await start_server(aiohttp_server, create_app(serve), 0)
    url = f"ws://127.0.0.1:{server.port}"
    with shows(message):
        async with step7.create_socket_client(url, decode=json.loads) as client:
            await use(client)


@pytest.mark.parametrize("connect", [connect, connect_step7])
async def test_message_on_connecting(
    aiohttp_server: AiohttpServer, connect: Callable[[int | str], Awaitable[None]]
) -> None:
    server = await start_server(aiohttp_server, create_app(echo), 0)
    with shows("WSServerHandshakeError"):
        await connect(f"{server.port}/elsewhere")
    with create_server(("127.0.0.1", 0)) as deaf_server:
        port = deaf_server.getsockname()[1]
        with shows("waited 1 s for the server to open the connection"):
            await connect(port)
    with shows("Cannot connect to host …"):
        await connect(port)


async def test_message_about_arguments_of_step6() -> None:
    with shows("Constructor parameter should be str"):
        async with step7.create_socket_client(3099):  # type: ignore[arg-type]
            pass
    with shows("got an unexpected keyword argument 'close_after'"):
        async with step7.create_socket_client("ws://127.0.0.1", close_after=1):
            pass
    with shows("got multiple values for keyword argument 'timeout'"):
        async with step7.create_socket_client("ws://127.0.0.1", timeout=1):
            pass


@pytest.mark.parametrize("message", FAULTS)
def test_message_of_the_guard(tmp_path: Path, message: str) -> None:
    for name in "__init__.py", "utils.py", "conftest.py":
        copy(Path("step6_groups", name), tmp_path)
    text = GUARD.format(fault=FAULTS[message])
    check(run_pytest(text, tmp_path / "test_guard.py"), message)


@pytest.mark.parametrize("message", UVICORN)
def test_message_on_uvicorn(tmp_path: Path, message: str) -> None:
    files = build(Path("docs/recipes/fastapi.md"))
    old, new = UVICORN[message]
    assert old in files["shop.py"]
    files["shop.py"] = files["shop.py"].replace(old, new)
    check(run(files, tmp_path)[1], message)


@pytest.mark.parametrize("message", SETTINGS)
def test_message_about_settings(tmp_path: Path, message: str) -> None:
    text, *options = SETTINGS[message]
    check(run_pytest(text, tmp_path / "test_one.py", *options), message)


def test_message_about_a_port() -> None:
    with create_server(("127.0.0.1", utils3.compute_port())):
        check(run_step(3), "no server on port … (BASE_PORT sets another)")


def test_message_about_a_port_of_step7(tmp_path: Path) -> None:
    with create_server(("127.0.0.1", 0)) as used:
        text = TAKEN.format(port=used.getsockname()[1])
        output = run_pytest(text, tmp_path / "test_port.py", "--no-header")
    check(output, "Address already in use")
    assert len(output.splitlines()) < 25, output


def test_make_runs_one_test() -> None:
    name = "step1_echo/test_server.py::test_server_echoes_bytes_as_bytes"
    check(run_step(1, f"ARGS={name}"), "= 1 passed in ")


def test_message_about_base_port() -> None:
    check(run_step(1, "BASE_PORT=abc"), "BASE_PORT is …, not a number up to 60000")


def test_message_about_an_old_python(tmp_path: Path) -> None:
    python = tmp_path / "python3.9"
    python.write_text('#!/bin/sh\ncase "$2" in *version_info*) exit 1;; esac\n')
    python.chmod(0o755)
    check(run_step(1, f"PYTHON={python}"), "This needs Python 3.11 or later")


def test_every_message_is_produced() -> None:
    elsewhere = {
        "no server on port 3003 (BASE_PORT sets another)",
        "Address already in use",
        "Cannot connect to host …",
        "waited 1 s for the server to open the connection",
        "WSServerHandshakeError",
        "Constructor parameter should be str",
        "got an unexpected keyword argument 'close_after'",
        "BASE_PORT is …, not a number up to 60000",
        "got multiple values for keyword argument 'timeout'",
        "This needs Python 3.11 or later",
    }
    produced = {*SCENES, *STEP7_SCENES, *FAULTS, *UVICORN, *SETTINGS} | elsewhere
    assert sorted(MESSAGES) == sorted(produced)


def test_messages_of_one_client_are_marked() -> None:
    for scenes, mark in [
        (SCENES.keys() - STEP7_SCENES, "**Steps 3 to 6.**"),
        (STEP7_SCENES.keys() - SCENES, "**Step 7.**"),
    ]:
        for message in scenes:
            assert f"| `{message}` | {mark} " in PAGE
