"""Put step 6's utilities in front of odd servers, and hold them to their promises."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import SHUT_RDWR, create_server

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web
from pytest_aiohttp import AiohttpServer

from step6_groups import utils
from step6_groups.utils import SocketState, create_socket_client, wait_for_socket_state

Serve = Callable[[web.WebSocketResponse], Awaitable[object]]
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
    """Start servers that treat a connection as told; see what their clients leave."""

    async def start(serve: Serve) -> int:
        async def handle(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse(autoclose=False)
            await socket.prepare(request)
            with suppress(ConnectionError):
                await serve(socket)
            return socket

        app = web.Application()
        app.router.add_get("/", handle)
        return int((await aiohttp_server(app, shutdown_timeout=0.1)).port or 0)

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
    """Greet, then send more and more, whatever the client says."""
    while True:
        await socket.send_str("HELLO")
        await asyncio.sleep(0.4)


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

    def record(client: ClientWebSocketResponse, *frame: object) -> Awaitable[None]:
        goodbyes.append(frame)
        return send_frame(client, *frame)  # type: ignore[arg-type]

    monkeypatch.setattr(ClientWebSocketResponse, "send_frame", record)
    helper = create_socket_client(await start(answer), close_after)
    with takes(0, 0.5):
        async with helper as (client, messages):
            await wait_for_socket_state(client, SocketState.OPEN)
            await client.send_str("one")
            if close_after in {1, 2, 3}:
                await wait_for_socket_state(client, SocketState.CLOSED)
    assert messages == ["one", "one", "one", "BYE"]
    assert goodbyes == [(b"\x03\xe8", WSMsgType.CLOSE)]
    assert client.close_code == 1000


@pytest.mark.parametrize(("serve", "number"), [(close, 1), (count, 300)])
async def test_client_records_all_until_the_server_closes(
    start: Start, serve: Serve, number: int
) -> None:
    async with create_socket_client(await start(serve), 300) as (client, messages):
        await wait_for_socket_state(client, SocketState.CLOSED)
        with takes(0.1, 0.5), pytest.raises(TimeoutError, match="to be OPEN") as late:
            await wait_for_socket_state(client, SocketState.OPEN, timeout=0.1)
    assert shown_files(late) == {"test_utils.py"}
    assert len(messages) == number


@pytest.mark.parametrize(
    ("serve", "least", "reason"),
    [(hang, 0.9, "1 s .*close frame"), (abort, 0, "frame")],
)
async def test_client_reports_a_server_that_does_not_close(
    start: Start, serve: Serve, least: float, reason: str
) -> None:
    port = await start(serve)
    with takes(least, 1.8), pytest.raises(OSError, match=reason) as failure:
        async with create_socket_client(port) as (_, messages):
            await utils.wait_for_messages(messages, 1)
    assert shown_files(failure) == {"test_utils.py", "contextlib.py"}


async def test_client_reports_a_server_that_does_not_open() -> None:
    with create_server(("127.0.0.1", 0)) as deaf:
        helper = create_socket_client(deaf.getsockname()[1])
        with takes(0.9, 1.8), pytest.raises(TimeoutError, match="to open"):
            await helper.__aenter__()


@pytest.mark.parametrize("pause", [0, 0.1])
@pytest.mark.parametrize("serve", [answer, close, count, hang, abort])
async def test_client_lets_a_failure_of_the_test_through(
    start: Start, serve: Serve, pause: float
) -> None:
    with takes(0, 1.8 if not pause else 0.5), pytest.raises(ZeroDivisionError) as own:
        async with create_socket_client(await start(serve)) as (_, messages):
            if pause:
                await asyncio.sleep(pause)
            raise ZeroDivisionError
    note = f"the client had received {len(messages)}: {messages[:10]}"
    assert own.value.__notes__ == [note]


async def test_waiting_for_messages_ends_with_them_or_in_time() -> None:
    messages: list[str | bytes] = ["one"]
    asyncio.get_running_loop().call_later(0.05, messages.extend, "abcdefghijk")
    with takes(0.05, 0.5):
        await utils.wait_for_messages(messages, 2)
    with takes(0.1, 0.5), pytest.raises(TimeoutError) as late:
        await utils.wait_for_messages(messages, 13, timeout=0.1)
    assert str(late.value) == f"waited 0.1 s for 13 messages: {messages[:10]}"
    assert shown_files(late) == {"test_utils.py"}


async def test_server_stops_in_time_with_a_client_connected(
    aiohttp_server: AiohttpServer,
) -> None:
    server = await utils.start_server(aiohttp_server, 0)
    async with ClientSession() as session, session.ws_connect(server.make_url("/")):
        with takes(0, 0.9):
            await server.close()


@pytest.mark.parametrize(
    ("base_port", "worker", "folder", "port"),
    [
        ("", "", "step6_groups", 3006),
        ("4000", "gw3", "step12_more", 4042),
        ("65000", "gw3", "tests", 65030),
    ],
)
def test_port_is_computed(
    monkeypatch: pytest.MonkeyPatch, base_port: str, worker: str, folder: str, port: int
) -> None:
    for name, value in (("BASE_PORT", base_port), ("PYTEST_XDIST_WORKER", worker)):
        monkeypatch.setenv(name, value)
        if not value:
            monkeypatch.delenv(name)
    monkeypatch.setattr(utils, "__file__", f"/{folder}/utils.py")
    monkeypatch.setattr(utils, "create_server", lambda _: create_server(("", 0)))
    assert utils.compute_port() == port


@pytest.mark.parametrize("base_port", ["", "many", "-5", "65001", "in use"])
def test_no_port_is_a_line_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch, base_port: str
) -> None:
    monkeypatch.setattr(utils, "__file__", "/tests/utils.py")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    with create_server(("127.0.0.1", 0)) as used:
        if base_port == "in use":
            base_port = str(used.getsockname()[1])
        monkeypatch.setenv("BASE_PORT", base_port)
        with pytest.raises(pytest.fail.Exception, match="BASE_PORT") as failure:
            utils.compute_port()
    assert base_port in str(failure.value)
    assert not failure.value.pytrace
