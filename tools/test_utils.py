"""Put step 6's utilities in front of odd servers, and hold them to their promises."""

import asyncio
import gc
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from errno import EACCES, ECONNREFUSED
from pathlib import Path
from socket import SHUT_RDWR, create_server
from types import ModuleType
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, WSMsgType, web
from pytest_aiohttp import AiohttpServer

from conftest import pytest_runtest_setup
from step3_client_helper import utils as utils3
from step6_groups import utils as utils6
from step6_groups.utils import (
    SocketState,
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


def left_tasks() -> list[asyncio.Task[object]]:
    """Return the helper's tasks that still run."""
    tasks = asyncio.all_tasks()
    return [it for it in tasks if re.search("listen|settle", repr(it.get_coro()))]


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
    assert not [
        it for it in asyncio.all_tasks() if re.search("listen|settle", repr(it))
    ]
    assert "never retrieved" not in caplog.text
    assert utils6.open_clients == {}


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
    """Do nothing ever after, when somebody has spoken or wants to leave."""
    await socket.receive()
    await asyncio.sleep(9)


async def abort(socket: web.WebSocketResponse) -> None:
    """Hang up without a close frame when somebody speaks."""
    await socket.receive()
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


async def no_code(socket: web.WebSocketResponse) -> None:
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


async def ping(socket: web.WebSocketResponse) -> None:
    """Send texts, bytes, a ping, and a pong for nothing; tell which pongs come."""
    await socket.send_str("one")
    await socket.send_bytes(b"two")
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


async def answer_the_later_ping_first(socket: web.WebSocketResponse) -> None:
    """Answer a ping, then two in reverse order and with a pause, then one more."""
    reader = socket._reader
    assert reader
    for order in [0], [1, 0], [0]:
        pings = [await reader.read() for _ in order]
        for index in order:
            await socket.pong(pings[index].data)
            await asyncio.sleep(0.05)
    await socket.close()


STEPS = pytest.mark.parametrize("utils", [utils3, utils6], ids=["step3", "step6"])


@STEPS
@pytest.mark.parametrize("close_after", [None, 0, 1, 2, 3, 4, 9])
async def test_client_loses_no_message_and_sends_one_close_frame(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    utils: ModuleType,
    close_after: int | None,
) -> None:
    sent: list[object] = []

    def record(name: str) -> None:
        send = getattr(ClientWebSocketResponse, name)

        def record_and_send(*call: Any) -> object:
            sent.append(call[1:])
            return send(*call)

        monkeypatch.setattr(ClientWebSocketResponse, name, record_and_send)

    for name in "ping", "send_str", "send_frame":
        record(name)
    helper = utils.create_socket_client(await start(answer), close_after)
    with takes(0, 0.5):
        async with helper as (client, messages):
            if close_after != 0:
                await utils.wait_for_socket_state(client, utils.SocketState.OPEN)
                await client.send_str("one")
            if close_after in {0, 1, 2, 3}:
                await utils.wait_for_socket_state(client, utils.SocketState.CLOSED)
    assert messages == ["one"] * 3 * (close_after != 0) + ["BYE"]
    close_frame = (b"\x03\xe8", WSMsgType.CLOSE)
    assert sent.index(close_frame) == len(sent) - 1
    assert client.close_code == 1000


async def test_client_records_all_until_the_server_closes(start: Start) -> None:
    async with create_socket_client(await start(count), 300) as (client, messages):
        await wait_for_socket_state(client, SocketState.CLOSED)
        with takes(0, 0.1), pytest.raises(ConnectionError, match="not OPEN") as late:
            await wait_for_socket_state(client, SocketState.OPEN)
    assert shown_files(late) == {"test_utils.py"}
    assert messages == [str(number) for number in range(300)]


@STEPS
async def test_client_records_texts_and_bytes_and_answers_pings(
    start: Start, utils: ModuleType
) -> None:
    async with utils.create_socket_client(await start(ping)) as (client, messages):
        await client.ping(b"one of the test's own")
        await client.ping()
        await client.send_str("HI")
    assert messages == ["one", b"two", "pong even"]


BEFORE = "before the client's close frame; received"
AFTER = "after the client's close frame; received"


@pytest.mark.parametrize(
    ("serve", "cause"),
    [
        (close, f"the server closed with 4001 'bad token', {BEFORE} 1: ['HELLO']"),
        (fail, f"the server closed with 1011 '', {AFTER} 1: ['HELLO']"),
        (no_code, f"the server closed with no code '', {AFTER} 1: ['HELLO']"),
    ],
)
async def test_end_of_block_reports_how_the_server_closed(
    start: Start, serve: Serve, cause: str
) -> None:
    port = await start(serve)
    with takes(0, 0.9), pytest.raises(ConnectionError) as failure:
        async with create_socket_client(port):
            pass
    assert report(failure) == f"client 1: {cause}"
    assert shown_files(failure) <= HELPERS


async def test_close_after_hides_a_server_that_closes_first(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        await socket.send_str("HELLO")
        await socket.close()

    port = await start(serve)
    async with create_socket_client(port, close_after=1) as (client, messages):
        await client.send_str("HI")
        await wait_for_socket_state(client, SocketState.CLOSED)
    assert messages == ["HELLO"]
    with pytest.raises(ConnectionError, match="closed with 1000 '', before the"):
        async with create_socket_client(port) as (client, messages):
            await client.send_str("HI")
            await wait_for_socket_state(client, SocketState.CLOSED)


@pytest.mark.parametrize(
    ("serve", "cause"),
    [
        (fail_at_once, f"the server closed with 1011 'oops', {BEFORE}"),
        (abort, rf"no close frame came \(CLOSED\), {BEFORE}"),
        (send_too_much, rf"no close frame came \(Message size .*4194304\), {BEFORE}"),
        (send_no_text, rf"no close frame came \(Invalid UTF-8 .*\), {BEFORE}"),
    ],
)
async def test_wait_ends_with_the_connection_and_tells_the_cause(
    start: Start, serve: Serve, cause: str
) -> None:
    port = await start(serve)
    with takes(0, 0.9), pytest.raises(ConnectionError) as failure:
        async with create_socket_client(port) as (client, messages):
            await client.send_str("HI")
            await settle(client)
            await wait_for_messages(messages, 2)
    late = "the connection ended before message 2"
    assert re.fullmatch(rf"{late}\nclient 1: {cause} 0: \[\]", report(failure))
    assert shown_files(failure) <= HELPERS


async def test_stuck_server_is_reported_in_time(start: Start) -> None:
    port = await start(hang)
    with takes(0.9, 1.9), pytest.raises(TimeoutError) as failure:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                helper = create_socket_client(port)
                client, _messages = await stack.enter_async_context(helper)
                await client.send_str("HI")
    assert report(failure).splitlines() == [
        "waited 1 s for the server to handle all that client 1 sent",
        *[f"client {number}: connected; received 0: []" for number in (3, 2, 1)],
    ]
    assert shown_files(failure) <= HELPERS


@STEPS
async def test_server_that_reads_nothing_makes_no_send_wait(
    start: Start, utils: ModuleType
) -> None:
    port = await start(hang)
    with takes(0.9, 1.9), pytest.raises(TimeoutError):
        async with utils.create_socket_client(port) as (client, _):
            connection = client.get_extra_info("socket")
            with takes(0, 0.9):
                for _ in range(5):  # the buffers between the two hold less
                    await client.send_bytes(bytes(4_000_000))
    assert connection.fileno() == -1  # so that it does not warn in a later test


async def test_server_that_never_closes_is_reported(start: Start) -> None:
    port = await start(hang)
    with takes(0.9, 1.9), pytest.raises(TimeoutError, match="server's close frame"):
        async with create_socket_client(port):
            pass


async def test_test_that_receives_is_told_so_at_its_own_line(start: Start) -> None:
    async with create_socket_client(await start(answer)) as (client, messages):
        await client.send_str("one")
        with pytest.raises(RuntimeError, match="Concurrent"):
            await client.receive_str()
    assert messages == ["one", "one", "one", "BYE"]


async def test_report_tells_clients_apart(start: Start) -> None:
    port = await start(answer)
    with pytest.raises(ZeroDivisionError) as failure:
        async with AsyncExitStack() as stack:
            async with create_socket_client(port):
                helper = create_socket_client(port)
                client2, messages2 = await stack.enter_async_context(helper)
            await stack.enter_async_context(create_socket_client(port))
            await client2.send_str("one")
            await wait_for_messages(messages2, 3)
            raise ZeroDivisionError
    assert failure.value.__notes__ == [
        "client 3: connected; received 0: []",
        "client 2: connected; received 3: ['one', 'one', 'one']",
    ]


async def test_client_reports_a_server_that_does_not_open() -> None:
    with create_server(("127.0.0.1", 0)) as deaf:
        helper = create_socket_client(deaf.getsockname()[1])
        with takes(0.9, 1.8), pytest.raises(TimeoutError, match="to open"):
            await helper.__aenter__()
    with pytest.raises(ClientError, match="Cannot connect"):
        await create_socket_client(1).__aenter__()


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
    assert not left_tasks()
    assert len(own.value.__notes__) == 1
    assert f"received {len(messages)}: [" in own.value.__notes__[0]


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
    ):
        await client1.send_str("one")
        await settle(client1)
        assert messages1 == ["one", "one", "one"]
        await client2.send_str("two")
        await settle(client2)
        assert client2.closed


async def test_settle_waits_for_its_own_pong(start: Start) -> None:
    async with create_socket_client(await start(answer_the_later_ping_first)) as (
        it,
        _,
    ):
        first = asyncio.create_task(settle(it))
        await asyncio.sleep(0)
        await settle(it)
        assert not first.done()
        await first


async def test_settle_does_not_wait_for_a_client_that_is_lost(start: Start) -> None:
    with pytest.raises(ConnectionError, match="no close frame"):
        async with create_socket_client(await start(abort)) as (client, _):
            await client.send_str("HI")
            with takes(0, 0.1):
                await settle(client)


async def test_settle_of_a_client_that_the_helper_does_not_know(start: Start) -> None:
    port = await start(answer)
    async with create_socket_client(port) as (client, _), ClientSession() as session:
        stranger = await session.ws_connect(f"ws://127.0.0.1:{port}")
        with pytest.raises(ValueError, match="whose block has not ended"):
            await settle(stranger)
        await stranger.close()
    with pytest.raises(ValueError, match="whose block has not ended"):
        await settle(client)


async def test_server_stops_in_time_with_a_client_connected(
    aiohttp_server: AiohttpServer,
) -> None:
    server = await start_server(aiohttp_server, create_app(answer), 0)
    async with ClientSession() as session, session.ws_connect(server.make_url("/")):
        with takes(0, 0.9):
            await server.close()


async def test_server_lets_clean_up_finish_as_in_production(start: Start) -> None:
    gone = []

    async def serve(socket: web.WebSocketResponse) -> None:
        try:
            await socket.receive()
            await socket.close()
        finally:
            await asyncio.sleep(0.01)
            gone.append(socket)

    async with create_socket_client(await start(serve)):
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
    monkeypatch.setattr(utils6, "__file__", f"/{folder}/utils.py")
    assert utils6.compute_port() == port


def run_pytest(*arguments: str) -> subprocess.Popen[str]:
    """Start pytest in another process."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_taken_port_is_a_line_not_a_traceback() -> None:
    port = utils3.compute_port()
    with create_server(("127.0.0.1", port)):
        output, _ = run_pytest("step3_client_helper").communicate(timeout=60)
    assert output.count(f"\nno server on port {port} (BASE_PORT sets another): ") == 2
    assert not re.search("Traceback|Warning", output), output


@pytest.mark.parametrize("number", [EACCES, ECONNREFUSED])
def test_only_a_port_is_taken_for_one(
    request: pytest.FixtureRequest, number: int
) -> None:
    hook = pytest_runtest_setup(request.node)
    next(hook)
    error = pytest.fail.Exception if number == EACCES else ConnectionRefusedError
    with pytest.raises(error):
        hook.throw(OSError(number, "cannot be had"))


def test_two_runs_on_one_port_at_once() -> None:
    runs = [run_pytest("step4_multi_message") for _ in range(2)]
    for run in runs:
        output, _ = run.communicate(timeout=60)
        assert " passed" in output or "no server on port" in output
        assert not re.search("^E  |Traceback|Warning", output, re.MULTILINE), output


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
    run = run_pytest("-o", "asyncio_mode=auto", f"--rootdir={tmp_path}", str(tmp_path))
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
