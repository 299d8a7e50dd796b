"""Put step 6's utilities in front of odd servers, and hold them to their promises."""

import asyncio
import errno
import gc
import re
import time
from asyncio import open_connection
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
async def start(
    aiohttp_server: AiohttpServer, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Start]:
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
    assert "never retrieved" not in caplog.text


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
    """Greet, and close at once."""
    await socket.send_str("HELLO")
    await socket.close()


async def hang(socket: web.WebSocketResponse) -> None:
    """Greet, then send more and more, whatever the client says."""
    while True:
        await socket.send_str("HELLO")
        await asyncio.sleep(0.4)


async def abort(socket: web.WebSocketResponse) -> None:
    """Greet, and hang up without a close frame."""
    await socket.send_str("HELLO")
    socket.get_extra_info("socket").shutdown(SHUT_RDWR)


async def fail(socket: web.WebSocketResponse) -> None:
    """Greet, and answer the close frame with code 1011."""
    await socket.send_str("HELLO")
    await socket.receive()
    await socket.close(code=1011)


async def close_without_code(socket: web.WebSocketResponse) -> None:
    """Greet, and answer the close frame with one that has no code."""
    await socket.send_str("HELLO")
    await socket.receive()
    await socket.send_frame(b"", WSMsgType.CLOSE)


async def send_too_much(socket: web.WebSocketResponse) -> None:
    """Greet, then send a message larger than a client takes."""
    await socket.send_str("HELLO")
    await socket.send_bytes(bytes(5_000_000))


async def send_no_text(socket: web.WebSocketResponse) -> None:
    """Greet, then send a text frame that is not UTF-8."""
    await socket.send_str("HELLO")
    await socket.send_frame(b"\xff", WSMsgType.TEXT)


async def send_bytes(socket: web.WebSocketResponse) -> None:
    """Send bytes between two texts, and answer the close frame."""
    await socket.send_str("one")
    await socket.send_bytes(b"two")
    await socket.send_str("three")
    await socket.receive()
    await socket.close()


async def stop_reading(socket: web.WebSocketResponse) -> None:
    """Greet, and read nothing ever after."""
    await socket.send_str("HELLO")
    await asyncio.sleep(9)


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


async def test_client_records_all_until_the_server_closes(start: Start) -> None:
    async with create_socket_client(await start(count), 300) as (client, messages):
        await wait_for_socket_state(client, SocketState.CLOSED)
        with takes(0.1, 0.5), pytest.raises(TimeoutError, match="to be OPEN") as late:
            await wait_for_socket_state(client, SocketState.OPEN, timeout=0.1)
    assert shown_files(late) == {"test_utils.py"}
    assert messages == [str(number) for number in range(300)]


@pytest.mark.parametrize(
    ("serve", "least", "reason"),
    [
        (close, 0, "the server closed before the client's close frame, with code 1000"),
        (fail, 0, "the server closed after the client's close frame, with code 1011"),
        (close_without_code, 0, "after the client's close frame, with code 0"),
        (abort, 0, "ended before the client's close frame: no close frame"),
        (send_too_much, 0, "ended before the client's close frame: .*4194304"),
        (send_no_text, 0, "ended before the client's close frame: .*UTF-8"),
        (hang, 0.9, "waited 1 s for the server's close frame"),
        (stop_reading, 0.9, "waited 1 s for the server's close frame"),
    ],
)
async def test_client_reports_how_a_server_closes(
    start: Start, serve: Serve, least: float, reason: str
) -> None:
    port = await start(serve)
    with takes(least, 1.8), pytest.raises(OSError, match=reason) as failure:
        async with create_socket_client(port) as (_, messages):
            await utils.wait_for_messages(messages, 1)
            await asyncio.sleep(0.1)
    assert shown_files(failure) == {"test_utils.py", "contextlib.py"}


async def test_client_records_texts_and_bytes(start: Start) -> None:
    async with create_socket_client(await start(send_bytes)) as (_, messages):
        pass
    assert messages == ["one", b"two", "three"]


async def test_client_reports_a_server_that_hangs_up_on_its_close_frame(
    start: Start,
) -> None:
    with pytest.raises(ConnectionError, match=r"ended after .*: no close frame"):
        async with create_socket_client(await start(abort), close_after=1):
            await asyncio.sleep(0.1)


async def test_client_reports_that_the_test_closed_it(start: Start) -> None:
    with pytest.raises(ConnectionError, match="ended before the client's close frame"):
        async with create_socket_client(await start(answer)) as (client, _):
            await asyncio.sleep(0.1)
            await client.close()


async def test_client_ends_in_time_though_the_server_reads_nothing(
    start: Start,
) -> None:
    port = await start(stop_reading)
    with takes(1, 2.3), pytest.raises(TimeoutError, match="the server's close frame"):
        async with create_socket_client(port) as (client, _):
            for _ in range(3):  # the buffers between the two hold some megabytes
                sending = asyncio.create_task(client.send_bytes(bytes(4_000_000)))
                await asyncio.wait([sending], timeout=0.1)
                sending.cancel()


async def test_report_tells_clients_apart(start: Start) -> None:
    port = await start(answer)
    with pytest.raises(ZeroDivisionError) as failure:
        async with (
            create_socket_client(port),
            create_socket_client(port) as (client2, messages2),
        ):
            async with create_socket_client(port):
                pass
            await client2.send_str("one")
            await utils.wait_for_messages(messages2, 3)
            raise ZeroDivisionError
    assert failure.value.__notes__ == [
        "client 2, close code None, had received 3: ['one', 'one', 'one']",
        "client 1, close code None, had received 0: []",
    ]
    assert utils.open_clients == []


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
    assert len(own.value.__notes__) == 1
    assert f"had received {len(messages)}: [" in own.value.__notes__[0]


async def test_waiting_for_messages_ends_with_them_or_in_time() -> None:
    messages: list[str | bytes] = ["one"]
    with takes(0.05, 0.5):
        asyncio.get_running_loop().call_later(0.06, messages.extend, "abcdefghijk")
        await utils.wait_for_messages(messages, 2)
    with takes(0.1, 0.5), pytest.raises(TimeoutError) as late:
        await utils.wait_for_messages(messages, 13, timeout=0.1)
    assert str(late.value) == "waited 0.1 s for 13 message(s)"
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
        ("4000", "gw3", "step12_more", 4312),
        ("65000", "gw3", "tests", 65300),
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
    assert utils.compute_port() == port


async def test_other_failure_of_the_start_is_not_the_ports(
    aiohttp_server: AiohttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(app: web.Application) -> None:
        app.on_startup.append(lambda _: open_connection("127.0.0.1", 1))

    monkeypatch.setattr(utils, "create_websocket_server", create)
    with pytest.raises(ConnectionRefusedError):
        await utils.start_server(aiohttp_server, 0)


@pytest.mark.parametrize("port", [-5, 65536, "in use"])
async def test_no_port_is_a_line_not_a_traceback(
    aiohttp_server: AiohttpServer, port: int | str
) -> None:
    with create_server(("127.0.0.1", 0), backlog=1) as used:
        if isinstance(port, str):
            port = int(used.getsockname()[1])
        with pytest.raises(pytest.fail.Exception, match="BASE_PORT") as failure:
            await utils.start_server(aiohttp_server, port)
    assert f"no server on port {port} " in str(failure.value)
    assert re.search(r"in use|0-65535", str(failure.value))
    assert not failure.value.pytrace
    assert failure.value.__suppress_context__
    gc.collect()  # a socket left open warns now, and a warning is an error


def test_port_that_needs_a_privilege_is_a_line_too() -> None:
    error = PermissionError(errno.EACCES, "Permission denied")
    with (
        pytest.raises(pytest.fail.Exception, match="no server on port 80 "),
        utils.explain_busy_port(80),
    ):
        raise error
