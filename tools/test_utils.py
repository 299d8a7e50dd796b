"""Put step 6's utilities in front of odd servers, and hold them to their promises."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import SHUT_RDWR, create_server

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web
from pytest_aiohttp import AiohttpServer

from step6_groups import utils
from step6_groups.utils import (
    SocketState,
    compute_port,
    create_socket_client,
    start_server,
    wait_for_messages,
    wait_for_socket_state,
)

Serve = Callable[[web.WebSocketResponse], Awaitable[None]]
Start = Callable[[Serve], Awaitable[int]]


@contextmanager
def takes(least: float, most: float) -> Iterator[None]:
    """Check that a block takes from `least` to `most` seconds."""
    began = time.monotonic()
    yield
    assert least <= time.monotonic() - began <= most


def shown_files(failure: pytest.ExceptionInfo[BaseException]) -> set[str]:
    """Return the names of the files whose lines a report shows."""
    return {Path(entry.path).name for entry in failure.traceback.filter(failure)}


@pytest.fixture
async def start(aiohttp_server: AiohttpServer) -> AsyncIterator[Start]:
    """Start a server that treats connections as told; check what clients leave."""

    async def start(serve: Serve) -> int:
        async def handle(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse(autoclose=False)
            await socket.prepare(request)
            await serve(socket)
            return socket

        app = web.Application()
        app.router.add_get("/", handle)
        server = await aiohttp_server(app, shutdown_timeout=0.1)
        assert server.port
        return server.port

    yield start
    gc.collect()  # a connection left open warns now, and a warning is an error
    assert not [task for task in asyncio.all_tasks() if "listen" in repr(task)]


async def answer(socket: web.WebSocketResponse) -> None:
    """Echo every message three times, then answer the goodbye with one more."""
    async for message in socket:
        for _ in range(3):
            await socket.send_str(message.data)
            await asyncio.sleep(0.01)
    await socket.send_str("BYE")
    await socket.close()


async def count(socket: web.WebSocketResponse) -> None:
    """Send 300 messages, and answer the goodbye."""
    for number in range(300):
        await socket.send_str(str(number))
    await socket.receive()
    await socket.close()


async def close(socket: web.WebSocketResponse) -> None:
    """Greet and say goodbye at once."""
    await socket.send_str("HELLO")
    await socket.close()


async def hang(socket: web.WebSocketResponse) -> None:
    """Greet, and answer nothing, not even a goodbye."""
    await socket.send_str("HELLO")
    await asyncio.sleep(60)


async def abort(socket: web.WebSocketResponse) -> None:
    """Greet, and hang up without a goodbye."""
    await socket.send_str("HELLO")
    socket.get_extra_info("socket").shutdown(SHUT_RDWR)


@pytest.mark.parametrize("close_after", [None, 1, 2, 3, 4, 9])
async def test_client_loses_no_message_and_says_goodbye_once(
    start: Start, monkeypatch: pytest.MonkeyPatch, close_after: int | None
) -> None:
    goodbyes = []
    send_frame = ClientWebSocketResponse.send_frame

    async def record(
        client: ClientWebSocketResponse, message: bytes, opcode: WSMsgType
    ) -> None:
        goodbyes.append((message, opcode))
        await send_frame(client, message, opcode)

    monkeypatch.setattr(ClientWebSocketResponse, "send_frame", record)
    with takes(0, 0.5):
        async with create_socket_client(await start(answer), close_after) as (
            client,
            messages,
        ):
            await wait_for_socket_state(client, SocketState.OPEN)
            await client.send_str("one")
            if close_after and close_after < 4:
                await wait_for_socket_state(client, SocketState.CLOSED)
    assert messages == ["one", "one", "one", "BYE"]
    assert goodbyes == [(b"\x03\xe8", WSMsgType.CLOSE)]
    assert client.close_code == 1000


async def test_client_records_what_a_server_says_before_it_closes(start: Start) -> None:
    async with create_socket_client(await start(close)) as (client, messages):
        await wait_for_socket_state(client, SocketState.CLOSED)
    assert messages == ["HELLO"]


async def test_client_counts_beyond_the_integers_that_are_one_object(
    start: Start,
) -> None:
    port = await start(count)
    async with create_socket_client(port, close_after=300) as (client, messages):
        await wait_for_socket_state(client, SocketState.CLOSED)
    assert messages == [str(number) for number in range(300)]


async def test_client_reports_a_server_that_does_not_close(start: Start) -> None:
    port = await start(hang)
    with takes(0.9, 1.8), pytest.raises(TimeoutError, match=r"1 s .*frame") as failure:
        async with create_socket_client(port) as (_, messages):
            await wait_for_messages(messages, 1)
    assert shown_files(failure) == {"test_utils.py", "contextlib.py"}
    assert failure.value.__notes__ == ["the client had received ['HELLO']"]


async def test_client_reports_a_connection_without_a_close_frame(start: Start) -> None:
    with takes(0, 0.5), pytest.raises(ConnectionError, match="without a close frame"):
        async with create_socket_client(await start(abort)) as (_, messages):
            await wait_for_messages(messages, 1)


async def test_client_reports_a_server_that_does_not_open() -> None:
    with create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        with takes(0.9, 1.8), pytest.raises(TimeoutError, match=r"1 s .*open"):
            async with create_socket_client(port):
                pass


@pytest.mark.parametrize("serve", [answer, close, hang, abort])
async def test_client_lets_a_failure_of_the_test_through(
    start: Start, serve: Serve
) -> None:
    with takes(0, 0.5), pytest.raises(AssertionError, match="mine") as failure:
        async with create_socket_client(await start(serve)) as (_, messages):
            await asyncio.sleep(0.05)
            raise AssertionError("mine")
    assert failure.value.__notes__ == [f"the client had received {messages}"]


async def test_a_test_that_fails_at_once_ends_in_time(start: Start) -> None:
    with takes(0, 1.8), pytest.raises(AssertionError, match="mine"):
        async with create_socket_client(await start(hang)):
            raise AssertionError("mine")


async def test_waiting_for_a_state_ends_with_it_or_in_time(start: Start) -> None:
    async with create_socket_client(await start(close)) as (client, _):
        with takes(0, 0.5):
            await wait_for_socket_state(client, SocketState.CLOSED)
        with takes(0.1, 0.5), pytest.raises(TimeoutError) as failure:
            await wait_for_socket_state(client, SocketState.OPEN, timeout=0.1)
    assert str(failure.value) == "waited 0.1 s for the socket to be OPEN"
    assert shown_files(failure) == {"test_utils.py"}


async def test_waiting_for_messages_ends_with_them_or_in_time() -> None:
    messages: list[str | bytes] = ["one"]
    asyncio.get_running_loop().call_later(0.05, messages.extend, ["two", "three"])
    with takes(0.05, 0.5):
        await wait_for_messages(messages, 2)
    with takes(0.1, 0.5), pytest.raises(TimeoutError) as failure:
        await wait_for_messages(messages, 4, timeout=0.1)
    assert str(failure.value) == f"waited 0.1 s for 4 messages: {messages}"
    assert shown_files(failure) == {"test_utils.py"}


async def test_server_stops_in_time_with_a_client_connected(
    aiohttp_server: AiohttpServer,
) -> None:
    server = await start_server(aiohttp_server, 0)
    async with ClientSession() as session, session.ws_connect(server.make_url("/")):
        with takes(0, 0.9):
            await server.close()


@pytest.mark.parametrize(
    ("base_port", "worker", "folder", "port"),
    [
        (None, None, "step6_groups", 3006),
        ("4000", "gw0", "step6_groups", 4006),
        ("4000", "gw3", "step12_more", 4042),
        ("4000", "gw3", "tests", 4030),
        ("65000", "gw0", "step6_groups", 65006),
    ],
)
def test_port_is_computed(
    monkeypatch: pytest.MonkeyPatch,
    base_port: str | None,
    worker: str | None,
    folder: str,
    port: int,
) -> None:
    for name, value in (("BASE_PORT", base_port), ("PYTEST_XDIST_WORKER", worker)):
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(utils, "__file__", f"/{folder}/utils.py")
    assert compute_port() == port


@pytest.mark.parametrize("base_port", ["", "many", "-5", "65001"])
def test_no_port_is_a_line_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch, base_port: str
) -> None:
    monkeypatch.setenv("BASE_PORT", base_port)
    with pytest.raises(pytest.fail.Exception, match="BASE_PORT") as failure:
        compute_port()
    assert not failure.value.pytrace


def test_port_in_use_is_a_line_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE_PORT", "4000")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    with (
        create_server(("127.0.0.1", 4006)),
        pytest.raises(pytest.fail.Exception, match=r"4006.*BASE_PORT") as failure,
    ):
        compute_port()
    assert not failure.value.pytrace
