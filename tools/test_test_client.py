"""Put step 7's client in front of other people's servers, right ones and wrong ones."""

import asyncio
import json
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import trustme
from aiohttp import ClientWSTimeout, WSMsgType, WSServerHandshakeError, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer
from step7_test_client import utils
from step7_test_client.utils import (
    TIMEOUT,
    SocketState,
    create_socket_client,
    start_server,
)

from tools.test_utils import HELPERS, report, shown_files

Serve = Callable[[web.WebSocketResponse], Awaitable[object]]
Start = Callable[[Serve], Awaitable[str]]


@contextmanager
def fails(
    error: type[BaseException], text: str, least: float = 0, most: float = 0.9
) -> Iterator[None]:
    """Check that a block fails with a report, of short lines, after so many seconds."""
    began = time.monotonic()
    with pytest.raises(error) as failure:
        yield
    assert least <= time.monotonic() - began <= most
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


async def vanish(socket: web.WebSocketResponse) -> None:
    """End the connection without a close frame, when somebody has spoken."""
    await socket.receive()
    assert socket._req
    assert socket._req.transport
    socket._req.transport.abort()


@pytest.mark.parametrize(
    ("serve", "code", "messages"),
    [
        (refuse, 4001, []),
        (stream, 1000, ["10 %", "50 %", "done"]),
        (close_without_code, 1005, []),
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
    with fails(TimeoutError, "waited 1 s for the .* code 1000.*connected", 0.9, 1.9):
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
        await client.close(code=1001)
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
        with pytest.raises(RuntimeError, match=r"messages, or wait_for_message\(\)"):
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


async def test_what_cannot_be_decoded_is_a_failure(start: Start) -> None:
    url = await start(echo)
    with fails(ConnectionError, "cannot be decoded: JSONDecodeError.*'nonsense'"):
        async with create_socket_client(url, decode=json.loads) as client:
            await client.send_str("nonsense")


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


async def test_settle_ends_with_the_last_of_several_pongs(start: Start) -> None:
    async with create_socket_client(await start(echo)) as client:
        for text in ("one", "two", "three"):
            await client.send_str(text)
        await asyncio.gather(*[client.settle() for _ in range(5)])
        assert client.messages == ["one", "two", "three"]


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
    with fails(TimeoutError, "waited 1 s for the server's close frame", 0.9, 2.9):
        async with create_socket_client(url):
            pass


async def test_pings_of_the_test_are_not_those_of_settle(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            await asyncio.sleep(0.02)
            await socket.send_str(message.data)

    async with create_socket_client(await start(serve)) as client:
        await client.ping(b"99")
        await client.ping()
        await client.send_str("HI")
        await client.settle()
        assert client.messages == ["HI"]


async def test_receive_time_out_is_named_as_the_cause(start: Start) -> None:
    url = await start(echo)
    cause = "before the client's close frame: its own receive time-out; had received 0"
    with fails(ConnectionError, cause):
        async with create_socket_client(
            url, timeout=ClientWSTimeout(ws_receive=0.05)
        ) as client:
            await client.wait_for_message("HI")


async def test_send_to_a_server_that_does_not_read_is_bounded(start: Start) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        await asyncio.sleep(9)

    url = await start(serve)
    with fails(TimeoutError, "waited 1 s for the server to read", 0.9, 1.9):
        async with create_socket_client(url) as client:
            for _ in range(5):
                await client.send_bytes(bytes(4_000_000))


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
