"""Put step 6's utilities in front of odd servers, and hold them to their promises."""

import asyncio
import errno
import gc
import re
import subprocess
import sys
import time
from asyncio import open_connection
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from socket import SHUT_RDWR, create_server

import pytest
from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, WSMsgType, web
from pytest_aiohttp import AiohttpServer

from step6_groups import utils
from step6_groups.utils import (
    SocketState,
    bounded,
    create_socket_client,
    settle,
    start_server,
    wait_for_messages,
    wait_for_socket_state,
)

Serve = Callable[[web.WebSocketResponse], Awaitable[object]]
Start = Callable[[Serve], Awaitable[int]]
HELPERS = {"contextlib.py", "test_utils.py"}  # the files that a report may show


@contextmanager
def takes(least: float, most: float) -> Iterator[None]:
    """Check that a block takes from `least` to `most` seconds."""
    began = time.monotonic()
    yield
    assert least <= time.monotonic() - began <= most


def shown_files(failure: pytest.ExceptionInfo[BaseException]) -> set[str]:
    """Return the names of the files whose lines a report shows."""
    return {Path(entry.path).name for entry in failure.traceback.filter(failure)}


def report(failure: pytest.ExceptionInfo[BaseException]) -> str:
    """Return what a report says of an error, notes included."""
    return "\n".join([str(failure.value), *getattr(failure.value, "__notes__", [])])


def create_app(serve: Serve) -> web.Application:
    """Return an app that treats a connection as told."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoclose=False)
        await socket.prepare(request)
        with suppress(ConnectionError):
            await serve(socket)
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    return app


@pytest.fixture
async def start(
    aiohttp_server: AiohttpServer, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Start]:
    """Start servers that treat a connection as told; see what their clients leave."""

    async def start(serve: Serve) -> int:
        return (await start_server(aiohttp_server, create_app(serve), 0)).port or 0

    yield start
    gc.collect()  # a connection left open warns now, and a warning is an error
    assert not [task for task in asyncio.all_tasks() if "listen" in repr(task)]
    assert "never retrieved" not in caplog.text
    assert utils.open_clients == {}


async def answer(socket: web.WebSocketResponse) -> None:
    """Echo every message three times, then answer the close frame with one more."""
    async for message in socket:
        for _ in range(3):
            await socket.send_str(message.data)
            await asyncio.sleep(0.01)
    await socket.send_str("BYE")
    await socket.close()


async def count(socket: web.WebSocketResponse) -> None:
    """Send 300 messages, and answer the close frame."""
    for number in range(300):
        await socket.send_str(str(number))
    await socket.receive()
    await socket.close()


async def close(socket: web.WebSocketResponse) -> None:
    """Greet, and close at once."""
    await socket.send_str("HELLO")
    await socket.close(code=4001, message=b"bad token")


async def hang(socket: web.WebSocketResponse) -> None:
    """Greet when somebody speaks, then do nothing ever after."""
    await socket.receive()
    await socket.send_str("HELLO")
    await asyncio.sleep(9)


async def abort(socket: web.WebSocketResponse) -> None:
    """Greet when somebody speaks, and hang up without a close frame."""
    await socket.receive()
    await socket.send_str("HELLO")
    socket.get_extra_info("socket").shutdown(SHUT_RDWR)


async def fail(socket: web.WebSocketResponse) -> None:
    """Greet, and answer the close frame with code 1011."""
    await socket.send_str("HELLO")
    await socket.receive()
    await socket.close(code=1011)


async def fail_at_once(socket: web.WebSocketResponse) -> None:
    """Close with code 1011 when somebody speaks."""
    await socket.receive()
    await socket.close(code=1011, message=b"oops")


async def close_without_code(socket: web.WebSocketResponse) -> None:
    """Greet, and answer the close frame with one that has no code."""
    await socket.send_str("HELLO")
    await socket.receive()
    await socket.send_frame(b"", WSMsgType.CLOSE)


async def send_too_much(socket: web.WebSocketResponse) -> None:
    """Send a message larger than a client takes when somebody speaks."""
    await socket.receive()
    await socket.send_bytes(bytes(5_000_000))


async def send_no_text(socket: web.WebSocketResponse) -> None:
    """Send a text frame that is not UTF-8 when somebody speaks."""
    await socket.receive()
    await socket.send_frame(b"\xff", WSMsgType.TEXT)


async def send_bytes(socket: web.WebSocketResponse) -> None:
    """Send bytes between two texts, and answer the close frame."""
    await socket.send_str("one")
    await socket.send_bytes(b"two")
    await socket.send_str("three")
    await socket.receive()
    await socket.close()


async def ping(socket: web.WebSocketResponse) -> None:
    """Ping the client, and tell it what it answers; it also gets a pong for nothing."""
    await socket.send_frame(b"odd", WSMsgType.PONG)
    await socket.ping(b"even")
    reader = socket._reader
    assert reader
    while (frame := await reader.read()).type is not WSMsgType.CLOSE:
        if frame.type is WSMsgType.PING:
            await socket.pong(frame.data)
        if frame.type is WSMsgType.PONG:
            await socket.send_str(f"pong {bytes(frame.data).decode()}")
    await socket.send_frame(b"\x03\xe8", WSMsgType.CLOSE)


async def stop_reading(socket: web.WebSocketResponse) -> None:
    """Greet, and read nothing ever after."""
    await socket.receive()
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
        with takes(0, 0.1), pytest.raises(ConnectionError, match="not OPEN") as late:
            await wait_for_socket_state(client, SocketState.OPEN)
    assert shown_files(late) == {"test_utils.py"}
    assert messages == [str(number) for number in range(300)]


async def test_client_records_texts_and_bytes(start: Start) -> None:
    async with create_socket_client(await start(send_bytes)) as (_, messages):
        pass
    assert messages == ["one", b"two", "three"]


async def test_client_answers_pings(start: Start) -> None:
    async with create_socket_client(await start(ping)) as (client, messages):
        await settle(client)
    assert messages == ["pong even"]


@pytest.mark.parametrize(
    ("serve", "cause"),
    [
        (close, "server closed before the .* with code 4001 and reason 'bad token'"),
        (fail, "the server closed after the client's close frame, with code 1011"),
        (close_without_code, "closed after the client's close frame, with no code"),
    ],
)
async def test_end_of_block_reports_how_the_server_closed(
    start: Start, serve: Serve, cause: str
) -> None:
    port = await start(serve)
    with takes(0, 0.9), pytest.raises(ConnectionError, match=cause) as failure:
        async with create_socket_client(port):
            pass
    assert "client 1 had received 1: ['HELLO']" in report(failure)
    assert report(failure).count("closed") == 1
    assert shown_files(failure) <= HELPERS


@pytest.mark.parametrize(
    ("serve", "cause"),
    [
        (
            fail_at_once,
            "closed before .* close frame, with code 1011 and reason 'oops'",
        ),
        (abort, "connection ended before the client's close frame: no close frame"),
        (send_too_much, "connection ended before the client's close frame: .*4194304"),
        (send_no_text, "connection ended before the client's close frame: .*UTF-8.*"),
    ],
)
async def test_wait_ends_with_the_connection_and_tells_the_cause(
    start: Start, serve: Serve, cause: str
) -> None:
    port = await start(serve)
    with takes(0, 0.9), pytest.raises(ConnectionError) as failure:
        async with create_socket_client(port) as (client, messages):
            await client.send_str("HI")
            await wait_for_messages(messages, 2)
    assert "before message 2" in str(failure.value)
    assert re.search(f"client 1: the .*{cause}; had received", report(failure))
    assert shown_files(failure) <= HELPERS


@pytest.mark.parametrize("serve", [hang, stop_reading])
async def test_stuck_server_is_reported_in_time(start: Start, serve: Serve) -> None:
    port = await start(serve)
    with takes(0.9, 1.9), pytest.raises(TimeoutError) as failure:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                helper = create_socket_client(port)
                client, _messages = await stack.enter_async_context(helper)
                await client.send_str("HI")
    assert "waited 1 s for the server to answer a ping of client 1" in report(failure)
    assert all(f"client {number} had received" in report(failure) for number in (1, 2))
    assert shown_files(failure) <= HELPERS


async def test_server_that_never_closes_is_reported(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        await asyncio.sleep(9)

    port = await start(serve)
    with takes(0.9, 1.9), pytest.raises(TimeoutError, match="server's close frame"):
        async with create_socket_client(port):
            pass


async def test_test_that_closes_is_told_so(start: Start) -> None:
    with takes(0, 0.5), pytest.raises(ConnectionError, match="the test called close"):
        async with create_socket_client(await start(answer)) as (client, _):
            await client.close()


async def test_test_that_receives_is_told_so_at_its_own_line(start: Start) -> None:
    async with create_socket_client(await start(answer)) as (client, messages):
        await client.send_str("one")
        with pytest.raises(RuntimeError, match="Concurrent"):
            await client.receive_str()
    assert messages == ["one", "one", "one", "BYE"]


async def test_client_ends_in_time_though_the_server_reads_nothing(
    start: Start,
) -> None:
    port = await start(stop_reading)
    with takes(1, 2.3), pytest.raises(TimeoutError, match="to answer a ping"):
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
            await wait_for_messages(messages2, 3)
            raise ZeroDivisionError
    assert failure.value.__notes__ == [
        "client 2 had received 3: ['one', 'one', 'one']",
        "client 1 had received 0: []",
    ]


async def test_client_reports_a_server_that_does_not_open() -> None:
    with create_server(("127.0.0.1", 0)) as deaf:
        helper = create_socket_client(deaf.getsockname()[1])
        with takes(0.9, 1.8), pytest.raises(TimeoutError, match="to open"):
            await helper.__aenter__()


async def test_report_of_a_refused_connection_is_short() -> None:
    with pytest.raises(ClientError, match="Cannot connect") as failure:
        async with create_socket_client(1):
            pass
    assert shown_files(failure) <= HELPERS
    assert failure.value.__suppress_context__


@pytest.mark.parametrize("pause", [0, 0.1])
@pytest.mark.parametrize("serve", [answer, close, count, hang, abort])
async def test_client_lets_a_failure_of_the_test_through(
    start: Start, serve: Serve, pause: float
) -> None:
    with takes(0, 0.5), pytest.raises(ZeroDivisionError) as own:
        async with create_socket_client(await start(serve)) as (_, messages):
            if pause:
                await asyncio.sleep(pause)
            raise ZeroDivisionError
    assert len(own.value.__notes__) == 1
    assert f"had received {len(messages)}: [" in own.value.__notes__[0]


async def test_time_out_of_something_else_stays_what_it_is() -> None:
    async def late() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(9)

    with pytest.raises(TimeoutError, match=r"^$"):
        await bounded(late(), "something")


async def test_waiting_for_messages_ends_with_them_or_in_time(start: Start) -> None:
    async with create_socket_client(await start(answer)) as (client, messages):
        with takes(0, 0.5):
            await client.send_str("one")
            await wait_for_messages(messages, 2)
        with takes(0.1, 0.5), pytest.raises(TimeoutError) as late:
            await wait_for_messages(messages, 13, timeout=0.1)
        assert str(late.value) == "waited 0.1 s for 13 message(s)"
        assert shown_files(late) == {"test_utils.py"}


async def test_settle_waits_for_the_server_only(start: Start) -> None:
    port = await start(answer)
    async with (
        create_socket_client(port) as (client1, messages1),
        create_socket_client(port, close_after=1) as (client2, _),
        create_socket_client(port) as (client3, _),
    ):
        await client1.send_str("one")
        await settle(client1)
        assert messages1 == ["one", "one", "one"]
        await client2.send_str("two")
        await wait_for_socket_state(client2, SocketState.CLOSED)
        with takes(0, 0.1):
            await settle(client2)
        await asyncio.gather(*[settle(client3) for _ in range(5)])
    with takes(0, 0.1):
        await settle(client1)


async def test_settle_does_not_wait_for_who_is_lost(start: Start) -> None:
    port = await start(abort)
    with pytest.raises(ConnectionError, match="no close frame"):
        async with create_socket_client(port) as (client, _):
            await client.send_str("HI")
            with takes(0, 0.1):
                await settle(client)


async def test_server_stops_in_time_with_a_client_connected(
    aiohttp_server: AiohttpServer,
) -> None:
    server = await start_server(aiohttp_server, create_app(answer), 0)
    async with ClientSession() as session, session.ws_connect(server.make_url("/")):
        with takes(0, 0.9):
            await server.close()


async def test_server_lets_clean_up_finish_as_in_production(
    aiohttp_server: AiohttpServer,
) -> None:
    gone = []

    async def serve(socket: web.WebSocketResponse) -> None:
        try:
            await socket.receive()
            await socket.close()
        finally:
            await asyncio.sleep(0.01)
            gone.append(socket)

    server = await start_server(aiohttp_server, create_app(serve), 0)
    async with create_socket_client(server.port or 0):
        pass
    async with asyncio.timeout(1):
        while not gone:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("base_port", "worker", "folder", "port"),
    [
        ("", "", "step6_groups", 3006),
        ("4000", "gw3", "step12_more", 4312),
        ("65000", "gw3", "tests", 65399),
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


def test_base_port_that_is_no_number_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE_PORT", "abc")
    with pytest.raises(pytest.fail.Exception, match=r"BASE_PORT .*'abc'") as failure:
        utils.compute_port()
    assert not failure.value.pytrace


async def test_other_failure_of_the_start_is_not_the_ports(
    aiohttp_server: AiohttpServer,
) -> None:
    app = web.Application()
    app.on_startup.append(lambda _: open_connection("127.0.0.1", 1))
    with pytest.raises(ConnectionRefusedError):
        await start_server(aiohttp_server, app, 0)


@pytest.mark.parametrize("port", [-5, 65536, "in use"])
async def test_no_port_is_a_line_not_a_traceback(
    aiohttp_server: AiohttpServer, port: int | str
) -> None:
    with create_server(("127.0.0.1", 0), backlog=1) as used:
        if isinstance(port, str):
            port = int(used.getsockname()[1])
        with pytest.raises(pytest.fail.Exception, match="BASE_PORT") as failure:
            await start_server(aiohttp_server, web.Application(), port)
    assert f"no server on port {port} " in str(failure.value)
    assert re.search(r"in use|0-65535", str(failure.value))
    assert not failure.value.pytrace
    assert failure.value.__suppress_context__


async def test_port_that_needs_a_privilege_is_a_line_too() -> None:
    async def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(pytest.fail.Exception, match="no server on port 80 "):
        await start_server(refuse, web.Application(), 80)  # type: ignore[arg-type]


def test_two_runs_on_one_port_at_once() -> None:
    options = ["-q", "-p", "no:cacheprovider", "step4_multi_message"]
    command = [sys.executable, "-m", "pytest", *options]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for run in runs:
        output, _ = run.communicate(timeout=60)
        assert " passed" in output or "no server on port" in output
        assert not re.search("^E  |Warning", output, re.MULTILINE)


LONE_TEST = """
from aiohttp import web
from aiohttp.test_utils import TestServer
import pytest
from pytest_aiohttp import AiohttpServer

from .utils import compute_port, start_server


@pytest.fixture
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, web.Application(), compute_port())


async def test_server_is_there(server: TestServer) -> None:
    assert server.port == compute_port()
"""


def find_utils() -> dict[str, Path]:
    """Return the utilities of the steps that have `start_server`, each once."""
    paths = [*Path().glob("step*/utils.py"), *Path().glob("beyond/step*/utils.py")]
    different = {path.read_text(): path for path in paths}
    different.pop(Path("step1_echo/utils.py").read_text())
    return {path.parent.name: path for path in different.values()}


def test_utils_need_nothing_of_the_project(tmp_path: Path) -> None:
    for step, path in find_utils().items():
        tests = tmp_path / step
        tests.mkdir()
        (tests / "__init__.py").touch()
        (tests / "utils.py").write_text(path.read_text())
        (tests / "test_server.py").write_text(LONE_TEST)
    options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
    command = [sys.executable, "-m", "pytest", *options]
    subprocess.run(command, cwd=tmp_path, check=True)
