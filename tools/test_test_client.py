"""Put step 7's client in front of other people's servers, right ones and wrong ones."""

import asyncio
import json
import logging
import os
import re
import socket as sockets
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
    ClientWSTimeout,
    TCPConnector,
    UnixConnector,
    WSMsgType,
    WSServerHandshakeError,
    web,
)
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer
from step7_test_client import utils
from step7_test_client.utils import (
    TIMEOUT,
    SocketState,
    TestWebSocket,
    create_socket_client,
    start_server,
)
from yarl import URL

from tools.test_utils import HELPERS, report, shown_files

Serve = Callable[[web.WebSocketResponse], Awaitable[object]]
Start = Callable[[Serve], Awaitable[str]]
LATE = f"waited {TIMEOUT:g} s for"


@contextmanager
def fails(
    error: type[BaseException], text: str, least: float = 0, most: float = 0.9
) -> Iterator[None]:
    """Check that a block fails with a report, of short lines, in so many TIMEOUTs."""
    began = time.monotonic()
    with pytest.raises(error) as failure:
        yield
    assert least * TIMEOUT <= time.monotonic() - began <= most * TIMEOUT
    assert re.search(text, report(failure), re.DOTALL), report(failure)
    assert shown_files(failure) <= HELPERS | {"test_test_client.py"}


@pytest.fixture
async def start(aiohttp_server: AiohttpServer) -> AsyncIterator[Start]:
    """Start servers that treat a connection as told; see what their clients leave."""

    async def start(serve: Serve) -> str:
        async def handle(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse(protocols=["chat.v2"])
            await socket.prepare(request)
            await serve(socket)
            return socket

        app = web.Application()
        app.router.add_get("/room", handle)
        server = await start_server(aiohttp_server, app, 0)
        return str(server.make_url("/room")).replace("http", "ws")

    yield start
    assert not [task for task in asyncio.all_tasks() if "listen" in repr(task)]
    assert utils.open_clients == []
    assert utils.openings == set()


@pytest.fixture
def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server, and of a client that trusts it."""
    authority = trustme.CA()
    for_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(for_server)
    for_client = ssl.create_default_context()
    authority.configure_trust(for_client)
    return for_server, for_client


async def echo(socket: web.WebSocketResponse) -> None:
    """Echo texts and bytes."""
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)


async def refuse(socket: web.WebSocketResponse) -> None:
    """Close with code 4001 at once."""
    await socket.close(code=4001, message=b"bad token")


async def stream(socket: web.WebSocketResponse) -> None:
    """Send three lines, and close."""
    for text in ("10 %", "50 %", "done"):
        await socket.send_str(text)
    await socket.close()


async def stay(socket: web.WebSocketResponse) -> None:
    """Send nothing, and close when the client does."""
    await socket.receive()


async def close_without_code(socket: web.WebSocketResponse) -> None:
    """Close with a close frame that has no code."""
    await socket.send_frame(b"", WSMsgType.CLOSE)


async def close_without_code_only(socket: web.WebSocketResponse) -> None:
    """Close with a close frame that has no code, and leave TCP open."""
    await close_without_code(socket)
    await asyncio.sleep(9)


async def vanish(socket: web.WebSocketResponse) -> None:
    """End the connection without a close frame, when somebody has spoken."""
    await socket.receive()
    assert socket._req
    assert socket._req.transport
    socket._req.transport.abort()


async def stop_reading(socket: web.WebSocketResponse) -> None:
    """Read one message, and nothing ever after."""
    shrink_buffers(socket)
    await socket.receive()
    await asyncio.sleep(9)


@pytest.mark.parametrize(
    ("serve", "code", "messages"),
    [
        (refuse, 4001, []),
        (stream, 1000, ["10 %", "50 %", "done"]),
        (close_without_code, 1005, []),
        (close_without_code_only, 1005, []),
    ],
)
async def test_server_closes_by_right(
    start: Start, serve: Serve, code: int, messages: list[str]
) -> None:
    async with create_socket_client(await start(serve)) as client:
        await client.wait_for_close(code)
        await client.wait_for_close(code)
    assert client.messages == messages


async def test_server_cuts_off_by_right(start: Start) -> None:
    async with create_socket_client(await start(vanish)) as client:
        await client.send_str("HI")
        await client.wait_for_close(1006)
    assert client.messages == []


@pytest.mark.parametrize(
    ("serve", "text"),
    [
        (stream, "closed before the client's close frame, with code 1000; had .*done"),
        (refuse, "with code 4001 and reason 'bad token'; had received 0"),
        (close_without_code, "with no code; had received 0"),
    ],
)
async def test_close_that_nobody_waited_for_is_a_failure(
    start: Start, serve: Serve, text: str
) -> None:
    url = await start(serve)
    with fails(ConnectionError, text):
        async with create_socket_client(url):
            pass


async def test_another_code_is_a_failure(start: Start) -> None:
    url = await start(refuse)
    with fails(
        ConnectionError, "close with code 4003.*code 4001 and reason 'bad token'"
    ):
        async with create_socket_client(url) as client:
            await client.wait_for_close(4003)


async def test_close_that_never_comes_is_a_time_out(start: Start) -> None:
    url = await start(stay)
    with fails(TimeoutError, f"{LATE} the .* code 1000.*connected", 0.9, 1.9):
        async with create_socket_client(url) as client:
            await client.wait_for_close()


async def test_cause_of_an_end_is_named(start: Start) -> None:
    url = await start(echo)
    with fails(ConnectionError, "waited for 1 message.*exceeds limit 100"):
        async with create_socket_client(url, max_msg_size=100) as client:
            await client.send_str("x" * 200)
            await client.wait_for_message_count(1)


async def test_sending_on_an_ended_connection_leaves_the_verdict_to_the_record(
    start: Start,
) -> None:
    url = await start(vanish)
    with fails(ConnectionError, "waited for the message 'x'.*no close frame"):
        async with create_socket_client(url) as client:
            for _ in range(20):
                await client.send_str("HI")
                await asyncio.sleep(0.001)
            await client.wait_for_message("x")


async def test_test_that_closes_loses_nothing(start: Start) -> None:
    async with create_socket_client(await start(echo)) as client:
        for number in range(100):
            await client.send_str(str(number))
        assert await client.close(code=1001)
        assert len(client.messages) == 100
        with pytest.raises(RuntimeError, match=r"RFC 6455, 5\.5\.1"):
            await client.send_bytes(b"late")
        await client.wait_until(SocketState.CLOSED)
        with fails(ConnectionError, "waited for the connection to be OPEN"):
            await client.wait_until(SocketState.OPEN)


@pytest.mark.parametrize("method", ["receive", "receive_str", "receive_json"])
async def test_test_that_receives_is_told_what_to_do(start: Start, method: str) -> None:
    async with create_socket_client(await start(echo)) as client:
        await client.send_str("one")
        with pytest.raises(RuntimeError, match=r"use messages or wait_for_message\(\)"):
            await getattr(client, method)()
        with pytest.raises(RuntimeError, match="listens by itself"):
            async for _ in client:
                pass
    assert client.messages == ["one"]


async def test_decode_makes_values(start: Start) -> None:
    async with create_socket_client(await start(echo), decode=json.loads) as client:
        await client.send_str('{"id": 7, "type": "posted"}')
        await client.wait_for_message({"type": "posted", "id": 7})
    assert client.messages == [{"type": "posted", "id": 7}]


async def test_wait_for_another_message_that_is_equal(start: Start) -> None:
    url = await start(echo)
    with fails(TimeoutError, "waited 0.05 s for the message 'pong', 2 times\n.*1: ."):
        async with create_socket_client(url) as client:
            await client.send_str("pong")
            await client.wait_for_message("pong")
            await client.wait_for_message("pong", 0.05, count=2)
    async with create_socket_client(url) as client:
        await client.send_str("pong")
        await client.send_str("pong")
        await client.wait_for_message("pong", count=2)
        client.clear_messages()
        await client.send_str("pong")
        await client.wait_for_message("pong")
    assert client.messages == ["pong"]


async def test_what_cannot_be_decoded_is_a_failure(start: Start) -> None:
    url = await start(echo)
    with fails(ConnectionError, "cannot be decoded: JSONDecodeError.*'nonsense'"):
        async with create_socket_client(url, decode=json.loads) as client:
            await client.send_str("nonsense")


async def test_binary_frame_is_no_text(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            await socket.send_bytes(message.data.encode())

    url = await start(serve)
    with fails(ConnectionError, r"decoded: TypeError.'a binary frame'.*1: .b'{"):
        async with create_socket_client(url, decode=json.loads) as client:
            await client.send_json({"a": 1})
            await client.wait_for_message({"a": 1})


async def test_text_frame_is_not_binary(start: Start) -> None:
    url = await start(echo)
    with fails(ConnectionError, "cannot be decoded: TypeError.'a text frame'"):
        async with create_socket_client(url, decode_bytes=json.loads) as client:
            await client.send_str("1")


async def test_each_kind_of_frame_has_its_decoder(start: Start) -> None:
    url = await start(echo)
    client_block = create_socket_client(url, decode=json.loads, decode_bytes=list)
    async with client_block as client:
        await client.send_str("[1]")
        await client.send_bytes(b"\2")
    assert client.messages == [[1], [2]]


async def test_options_reach_the_server(aiohttp_server: AiohttpServer) -> None:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        if request.headers.get("Authorization") != "Bearer sesame":
            raise web.HTTPUnauthorized
        socket = web.WebSocketResponse(protocols=["chat.v2"])
        await socket.prepare(request)
        await socket.receive()
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    server = await start_server(aiohttp_server, app, 0)
    headers = {"Authorization": "Bearer sesame"}
    url = server.make_url("/")
    async with create_socket_client(
        url, headers=headers, protocols=["chat.v1", "chat.v2"]
    ) as client:
        assert client.protocol == "chat.v2"
    with fails(WSServerHandshakeError, "401"):
        async with create_socket_client(url):
            pass


async def test_client_that_answers_no_pings_is_dropped(
    aiohttp_server: AiohttpServer,
) -> None:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=0.1)
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    url = (await start_server(aiohttp_server, app, 0)).make_url("/")
    async with (
        create_socket_client(url) as alive,
        create_socket_client(url, autoping=False) as dead,
    ):
        await dead.wait_for_close(1006)
        await alive.settle()


async def test_clean_up_that_takes_its_time(start: Start) -> None:
    members: set[web.WebSocketResponse] = set()

    async def serve(socket: web.WebSocketResponse) -> None:
        members.add(socket)
        try:
            await socket.receive()
        finally:
            members.discard(socket)
            await asyncio.sleep(0.01)
            for member in list(members):
                await member.send_str("ada left")

    url = await start(serve)
    async with create_socket_client(url) as grace:
        async with create_socket_client(url):
            pass
        await grace.wait_for_message("ada left")
    assert grace.messages == ["ada left"]


async def test_flood_is_recorded_whole(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        for number in range(10_000):
            await socket.send_str(str(number))
        await socket.receive()

    async with create_socket_client(await start(serve)) as client:
        pass
    assert client.messages == [str(number) for number in range(10_000)]


async def test_client_that_was_told_not_to_read_is_left_out(start: Start) -> None:
    url = await start(echo)
    async with create_socket_client(url) as slow:
        assert slow._conn
        assert slow._conn.transport
        slow._conn.transport.pause_reading()
        await slow.send_str("HI")
        async with create_socket_client(url) as client:
            await client.send_str("HO")
        assert slow.messages == []
        slow._conn.transport.resume_reading()
    assert client.messages == ["HO"]
    assert slow.messages == ["HI"]


async def test_time_out_of_something_else_stays_what_it_is() -> None:
    with pytest.raises(TimeoutError, match=r"^an inner one$"):
        async with asyncio.timeout(TIMEOUT):
            inner = asyncio.Future[None]()
            inner.set_exception(TimeoutError("an inner one"))
            await utils.bounded(inner, "something")


async def test_pongs_may_come_in_another_order(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        reader = socket._reader
        assert reader
        await socket.pong((await reader.read()).data)
        pings = [(await reader.read()).data for _ in range(3)]
        for ping in reversed(pings):
            await socket.pong(ping)
            await asyncio.sleep(0.02)
        await reader.read()

    async def settle(client: TestWebSocket) -> None:
        await client.settle()
        ended.append(client.number)

    ended: list[int] = []
    async with create_socket_client(await start(serve)) as client:
        first, *others = [asyncio.create_task(settle(client)) for _ in range(3)]
        await asyncio.wait(others)
        assert not first.done()
        await first


async def test_server_that_sends_before_it_reads(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        for number in range(4):
            await socket.send_str(str(number))
            await asyncio.sleep(0.4 * TIMEOUT)
        await socket.close()

    url = await start(serve)
    echo_url = await start(echo)
    async with create_socket_client(url) as client:
        async with create_socket_client(echo_url) as other:
            await other.send_str("HI")
        await client.wait_for_close(1000, 2 * TIMEOUT)
    assert client.messages == ["0", "1", "2", "3"]
    assert other.messages == ["HI"]


async def test_sender_whose_server_reads_late_is_waited_for(start: Start) -> None:
    sockets: list[web.WebSocketResponse] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        sockets.append(socket)
        if len(sockets) == 1:
            await socket.send_str("hello")
            await asyncio.sleep(1.4 * TIMEOUT)  # the first pong is late
        async for message in socket:
            await sockets[1].send_str(f"leak: {message.data}")

    url = await start(serve)
    async with (
        create_socket_client(url) as sender,
        create_socket_client(url) as outsider,
    ):
        await sender.send_str("secret")

    assert outsider.messages == ["leak: secret"]


async def test_server_that_greets_and_never_reads(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_str("hello")
        await asyncio.sleep(9)

    url = await start(serve)
    with fails(TimeoutError, f"{LATE} the server's close frame", 0.9, 2.9):
        async with create_socket_client(url):
            pass


async def test_pings_of_the_test_are_not_those_of_settle(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            await asyncio.sleep(0.02)
            await socket.send_str(message.data)

    async with create_socket_client(await start(serve)) as client:
        for payload in (b"settle down", b"settle 99", b"", b"\xff"):
            await client.ping(payload)
        await client.send_str("HI")
        await client.settle()
        assert client.messages == ["HI"]


async def test_settle_of_a_client_that_the_helper_does_not_know(start: Start) -> None:
    url = await start(echo)
    async with create_socket_client(url) as client:
        pass
    async with ClientSession(ws_response_class=TestWebSocket) as session:
        stranger = await session.ws_connect(url)
        assert isinstance(stranger, TestWebSocket)
        for unknown in (client, stranger):
            with fails(RuntimeError, "settle.. works only inside the block of"):
                await unknown.settle()
        stranger._response.close()


async def test_time_outs_of_aiohttp_are_refused(start: Start) -> None:
    url = await start(echo)
    with pytest.raises(TypeError, match="multiple values for keyword argument 'time"):
        async with create_socket_client(url, timeout=ClientWSTimeout(ws_receive=1)):
            pass


def shrink_buffers(socket: TestWebSocket | web.WebSocketResponse) -> None:
    """Let little fit between a client and a server that does not read."""
    for option in (sockets.SO_SNDBUF, sockets.SO_RCVBUF):
        socket.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, option, 4096)


SENDS: dict[str, Callable[[TestWebSocket], Awaitable[object]]] = {
    "send_str": lambda client: client.send_str("x" * 100_000),
    "send_json": lambda client: client.send_json("x" * 100_000),
    "send_bytes": lambda client: client.send_bytes(bytes(100_000)),
    "ping": lambda client: client.ping(bytes(125)),
    "pong": lambda client: client.pong(bytes(125)),
}


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
async def test_send_to_a_server_that_does_not_read_is_bounded(
    start: Start, send: Callable[[TestWebSocket], Awaitable[object]]
) -> None:
    url = await start(stop_reading)
    with fails(TimeoutError, f"{LATE} the server to read\nclient 1", 0.9, 1.9):
        async with create_socket_client(url) as client:
            shrink_buffers(client)
            await client.send_str("HI")
            while True:
                await send(client)


async def test_listener_survives_a_pong_that_is_late(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.ping()
        await socket.send_str("HI")
        await socket.receive()

    async def be_late(_client: TestWebSocket, _message: bytes) -> None:
        raise TimeoutError

    monkeypatch.setattr(TestWebSocket, "pong", be_late)
    async with create_socket_client(await start(serve)) as client:
        await client.wait_for_message("HI")


async def test_stuck_server_leaves_no_socket_open(start: Start) -> None:
    url = await start(stop_reading)
    with fails(TimeoutError, f"{LATE} the server to read", 0.9, 1.9):
        async with create_socket_client(url) as client:
            connection = client.get_extra_info("socket")
            for _ in range(5):
                await client.send_bytes(bytes(4_000_000))
    assert connection.fileno() == -1


async def test_wait_in_a_task_ends_with_the_block(start: Start) -> None:
    url = await start(echo)
    with pytest.raises(ZeroDivisionError):
        async with create_socket_client(url) as client:
            wait = asyncio.create_task(client.wait_for_message("HI", 9))
            await asyncio.sleep(0)
            raise ZeroDivisionError
    with fails(ConnectionError, "waited for the message 'HI'"):
        await wait


async def join_late(url: str) -> None:
    """Connect, and leave."""
    async with create_socket_client(url):
        pass


@pytest.mark.parametrize("looks_up_first", [True, False])
async def test_block_waits_for_clients_that_are_connecting(
    aiohttp_server: AiohttpServer, looks_up_first: bool
) -> None:
    clients: list[web.WebSocketResponse] = []

    async def look_up() -> None:
        if clients:
            await asyncio.sleep(0.05)
            await clients[0].send_str("leak")

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        if looks_up_first:
            await look_up()
        await socket.prepare(request)
        if not looks_up_first:
            await look_up()
        clients.append(socket)
        await socket.receive()
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    url = str((await start_server(aiohttp_server, app, 0)).make_url("/"))
    async with create_socket_client(url) as client:
        late = asyncio.create_task(join_late(url))
        await asyncio.sleep(0)  # by now it has begun
    await late
    assert client.messages == ["leak"]


@pytest.mark.parametrize("says_so", [True, False])
async def test_server_that_lets_one_in_at_a_time(
    aiohttp_server: AiohttpServer, says_so: bool
) -> None:
    is_free = asyncio.Semaphore()

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        if says_so:
            await socket.prepare(request)
            await socket.send_str("please wait")
        async with is_free:
            await socket.prepare(request)
            await echo(socket)
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    url = str((await start_server(aiohttp_server, app, 0)).make_url("/"))
    async with create_socket_client(url) as client:
        late = asyncio.create_task(join_late(url))
        await asyncio.sleep(0.05)
        await client.send_str("HI")
    await late
    assert client.messages[-1] == "HI"


def count_pings(monkeypatch: pytest.MonkeyPatch) -> list[TestWebSocket]:
    """Return a list that grows with each ping of a client."""
    pings: list[TestWebSocket] = []
    ping = TestWebSocket.ping

    async def record(client: TestWebSocket, message: bytes = b"") -> None:
        pings.append(client)
        await ping(client, message)

    monkeypatch.setattr(TestWebSocket, "ping", record)
    return pings


async def test_no_ping_follows_a_close_frame(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await start(echo)
    pings = count_pings(monkeypatch)
    async with create_socket_client(url) as client:
        await client.send_str("HI")
        await client.send_close()
        await client.settle()
        assert client.ending
    assert client.messages == ["HI"]
    assert pings == [client]  # the first one


async def test_many_clients_cost_few_pings(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients: list[web.WebSocketResponse] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        clients.append(socket)
        async for message in socket:
            for client in clients:
                await client.send_str(message.data)
        clients.remove(socket)

    url = await start(serve)
    pings = count_pings(monkeypatch)
    async with AsyncExitStack() as stack:
        blocks = [create_socket_client(url) for _ in range(100)]
        everybody = [await stack.enter_async_context(block) for block in blocks]
        for client in everybody[:3]:
            await client.send_str("HI")
    assert [client.messages for client in everybody] == [["HI"] * 3] * 100
    assert len(pings) == 103


async def test_many_conversations_cost_few_pings(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def converse(text: str) -> None:
        async with create_socket_client(url) as client:
            await client.send_str(text)
            await client.wait_for_message(text)
        assert client.messages == [text]

    url = await start(echo)
    pings = count_pings(monkeypatch)
    await asyncio.gather(*[converse(str(number)) for number in range(100)])
    assert len(pings) <= 300


async def test_hundreds_connect_at_once(start: Start) -> None:
    url = await start(stay)
    address = "127.0.0.1", URL(url).port or 0
    # Meanwhile, the server accepts none of them.
    opened = [sockets.create_connection(address, timeout=0.5) for _ in range(300)]
    for connection in opened:
        connection.close()


async def test_report_names_a_handful_of_clients(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        await socket.close(code=4001)

    url = await start(serve)
    with pytest.raises(TimeoutError) as failure:
        async with AsyncExitStack() as stack:
            blocks = [create_socket_client(url) for _ in range(20)]
            clients = [await stack.enter_async_context(block) for block in blocks]
            await clients[3].send_str("HI")
            await clients[3].wait_until(SocketState.CLOSED)
            await clients[9].wait_for_message("HI", 0.05)
    lines = report(failure).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "waited 0.05 s for the message 'HI'",
        "client 10",
        "client 4",
        *[f"client {number}" for number in (20, 19, 18, 17)],
        "and 14 more clients",
    ]


async def test_clients_share_a_connector(start: Start) -> None:
    url = await start(echo)
    async with TCPConnector() as connector:
        async with create_socket_client(url, connector=connector) as client:
            async with create_socket_client(url, connector=connector) as other_client:
                await other_client.send_str("HO")
            await client.send_str("HI")
        assert not connector.closed
    assert (client.messages, other_client.messages) == (["HI"], ["HO"])


async def test_unix_socket(tmp_path: Path) -> None:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await echo(socket)
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    path = str(tmp_path / "socket")
    await web.UnixSite(runner, path).start()
    connector = UnixConnector(path)
    async with connector, create_socket_client("ws://x", connector=connector) as client:
        await client.send_str("HI")
    await runner.cleanup()
    assert client.messages == ["HI"]


async def test_ping_may_overtake_a_message_that_is_compressed(start: Start) -> None:
    url = await start(echo)
    text = os.urandom(500_000).hex()
    async with create_socket_client(url, compress=15) as client:
        sending = asyncio.create_task(client.send_str(text))
        await asyncio.sleep(0)
        await client.settle()
        await sending
        assert client.sent > client.settled
    assert client.messages == [text]


async def test_feed_that_pings_and_never_reads(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_str("tick")
        await asyncio.sleep(1.1 * TIMEOUT)
        await socket.ping()
        await socket.send_str("tock")
        await asyncio.sleep(0.3 * TIMEOUT)
        await socket.close()

    url, echo_url = await start(serve), await start(echo)
    async with create_socket_client(url) as client:
        await client.wait_for_message("tock")
        async with create_socket_client(echo_url) as other_client:
            await other_client.send_str("HI")
        await client.wait_for_close()
    assert other_client.messages == ["HI"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs eager tasks")
@pytest.mark.parametrize("pause", [0, 0.02])
async def test_server_that_closes_at_once_with_eager_tasks(
    start: Start, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """With a pause, the close frame is there before the client listens."""
    connect = ClientSession._ws_connect

    async def connect_slowly(*args: Any, **options: Any) -> ClientWebSocketResponse:
        client: ClientWebSocketResponse = await connect(*args, **options)
        await asyncio.sleep(pause)
        return client

    monkeypatch.setattr(ClientSession, "_ws_connect", connect_slowly)
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    async with create_socket_client(await start(refuse)) as client:
        await client.wait_for_close(4001)
    assert client.messages == []


async def test_handler_that_fails_is_the_servers_error(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        raise KeyError("no such command")

    url = await start(serve)
    with fails(ConnectionError, "waited for 1 message.*no close frame; had received 0"):
        async with create_socket_client(url) as client:
            await client.send_str("HI")
            await client.wait_for_message_count(1)
    assert [r for r in caplog.records if r.levelno >= logging.ERROR]


async def test_secure_connection(
    aiohttp_server: AiohttpServer, certificates: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    for_server, for_client = certificates

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await echo(socket)
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    server = await start_server(aiohttp_server, app, 0, ssl=for_server)
    url = f"wss://127.0.0.1:{server.port}"
    async with create_socket_client(url, ssl=for_client) as client:
        await client.send_str("HI")
        await client.settle()
        assert client.messages == ["HI"]


async def test_url_of_a_test_server(aiohttp_server: AiohttpServer) -> None:
    server: TestServer = await start_server(aiohttp_server, web.Application(), 0)
    with fails(WSServerHandshakeError, "404"):
        async with create_socket_client(server.make_url("/")):
            pass


@pytest.mark.parametrize(
    ("base_port", "worker", "folder", "port"),
    [
        ("", "", "step7_test_client", 3007),
        ("4000", "gw0", "step12_many_processes", 4012),
        ("4000", "gw3", "tests", 4399),
    ],
)
def test_port(
    monkeypatch: pytest.MonkeyPatch, base_port: str, worker: str, folder: str, port: int
) -> None:
    monkeypatch.setenv("BASE_PORT", base_port)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    if worker:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    monkeypatch.setattr(utils, "__file__", f"/project/{folder}/utils.py")
    assert utils.compute_port() == port
