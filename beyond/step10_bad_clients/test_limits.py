"""Tests of the server with bad clients, and of what the good ones notice."""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import (
    ClientSession,
    WSMsgType,
    WSServerHandshakeError,
    web,
)
from aiohttp.log import server_logger
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from . import utils
from .connection import Limits
from .messages import (
    LONG,
    LONG_TEXTS,
    create,
    create_group,
    create_socket_client,
    echo,
    group_left,
    group_message,
    join,
    join_group,
    leave,
    message,
    resume_reading,
    send,
    stop_reading,
    to_all,
    unavailable,
)
from .server import PATH, create_websocket_server
from .utils import TIMEOUT, TestWebSocket, bounded, compute_port, start_server

pytestmark = pytest.mark.usefixtures("no_server_errors")
PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}{PATH}"
Start = Callable[..., Awaitable[TestServer]]
HANDSHAKE = (
    f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
MALFORMED_HANDSHAKES = {
    "no upgrade": HANDSHAKE.replace(b"Upgrade: websocket\r\n", b""),
    "old version": HANDSHAKE.replace(b"13", b"6"),
    "key too short": HANDSHAKE.replace(b"dGhl", b""),
    "key not in base64": HANDSHAKE.replace(b"dGhl", b"dGh"),
    "key not in ASCII": HANDSHAKE.replace(b"dGhl", "dGhé".encode()),
    "header without a colon": HANDSHAKE.replace(b"Host:", b"Host"),
    "unknown HTTP": HANDSHAKE.replace(b"1.1", b"9.9"),
    "not HTTP": b"\x16\x03\x01\x02\r\n\r\n",
}


@pytest.fixture
def start(aiohttp_server: AiohttpServer, make_limits: Callable[..., Limits]) -> Start:
    """Return a function that starts a server with limits, as in production."""

    async def start(**values: Any) -> TestServer:
        app = web.Application()
        limits = make_limits(**values)
        create_websocket_server(app, limits)
        options = {"keepalive_timeout": limits.heartbeat}
        return await start_server(aiohttp_server, app, PORT, **options)

    return start


def max_backlog(server: TestServer) -> int:
    """Return how many bytes wait in this process for the slowest client."""
    assert server.runner
    assert server.runner.server
    transports = [handler.transport for handler in server.runner.server.connections]
    return max(
        transport.get_write_buffer_size() for transport in transports if transport
    )


async def test_client_that_reads_nothing_is_cut_off(start: Start) -> None:
    server = await start(message_size=LONG, backlog=LONG)
    backlogs = []
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as bad_client,
    ):
        group_id = await create_group(bad_client)
        await join_group(client2, group_id)

        stop_reading(bad_client)
        for text in LONG_TEXTS:
            await send(client1, to_all(text))
            backlogs.append(max_backlog(server))
        await send(client2, leave(group_id))
        await send(client2, join(group_id))  # it has no members, so it is gone
        resume_reading(bad_client)
        await bad_client.wait_for_close(1006)

    assert client1.messages == [echo(text) for text in LONG_TEXTS]
    replies = [group_left(group_id), unavailable(group_id)]
    assert client2.messages == [*client1.messages, *replies]
    assert bad_client.messages == client1.messages[: len(bad_client.messages)]
    assert len(bad_client.messages) < len(LONG_TEXTS)
    assert LONG < max(backlogs) < LONG + 2 * len(LONG_TEXTS[0])


async def test_client_that_reads_none_of_its_own_echoes(start: Start) -> None:
    await start(message_size=LONG, backlog=2**16)

    async with (
        create_socket_client(URL) as client,
        create_socket_client(URL) as bad_client,
    ):
        stop_reading(bad_client)
        for text in LONG_TEXTS * 2:
            await bad_client.send_json(echo(text))
            await client.settle()
        resume_reading(bad_client)
        await bad_client.wait_for_close(1006)
        await send(client, to_all("HI"))

    assert client.messages == [echo("HI")]
    assert len(bad_client.messages) < len(LONG_TEXTS)


async def test_client_that_says_goodbye_and_does_not_read(start: Start) -> None:
    server = await start(message_size=LONG, backlog=2**24)
    assert server.runner
    connected = server.runner.server
    assert connected

    async def see_a_connection_end(client: TestWebSocket) -> None:
        while len(connected.connections) == 2:
            await client.settle()

    async with (
        create_socket_client(URL) as client,
        create_socket_client(URL) as bad_client,
    ):
        stop_reading(bad_client)
        for text in LONG_TEXTS[:60]:
            await bad_client.send_json(echo(text))
        await bad_client.send_close()
        end = see_a_connection_end(client)
        await bounded(end, "the server to cut it off", 2 * TIMEOUT)
        resume_reading(bad_client)
        await bad_client.wait_for_close(1006)

    assert client.messages == []


async def test_client_that_falls_behind_misses_nothing(start: Start) -> None:
    await start(message_size=LONG, backlog=2**24)

    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        stop_reading(client2)
        for text in LONG_TEXTS[:60]:
            await send(client1, to_all(text))
        await client2.send_close()
        await client1.settle()
        resume_reading(client2)

    assert client1.messages == [echo(text) for text in LONG_TEXTS[:60]]
    assert client2.messages == client1.messages


async def test_ping_gets_one_pong(start: Start) -> None:
    await start()

    async with asyncio.timeout(2 * TIMEOUT), ClientSession() as session:
        client = await session.ws_connect(URL, autoping=False)
        await client.ping(b"HI")
        await client.send_json(echo())
        frames = [await client.receive() for _ in ("the pong", "the answer")]

    assert [frame.type for frame in frames] == [WSMsgType.PONG, WSMsgType.TEXT]
    assert frames[0].data == b"HI"


async def test_pings_without_reading_the_pongs(start: Start) -> None:
    await start(backlog=2**16)

    async with (
        create_socket_client(URL) as client,
        create_socket_client(URL) as bad_client,
    ):
        stop_reading(bad_client)
        with suppress(ConnectionError):
            for number in range(100_000):
                await bounded(bad_client.ping(b"x" * 125), "the server to read")
                if number % 500 == 0:
                    await client.settle()
        resume_reading(bad_client)
        await bad_client.wait_for_close(1006)
        await send(client, to_all("HI"))

    assert client.messages == [echo("HI")]


async def test_others_have_their_turn_in_a_flood(start: Start) -> None:
    await start()

    async with (
        create_socket_client(URL) as client,
        create_socket_client(URL) as flooding_client,
    ):
        for number in range(500):
            await flooding_client.send_json(to_all(f"flood {number}"))
        await client.send_json(to_all("HI"))
        await client.wait_for_message_count(501)

    turn = client.messages.index(echo("HI"))
    assert turn < 10
    flood = [echo(f"flood {number}") for number in range(500)]
    assert client.messages == [*flood[:turn], echo("HI"), *flood[turn:]]
    assert flooding_client.messages == client.messages


async def test_nothing_comes_after_leaving_a_group(start: Start) -> None:
    """Client 1 sends; three members leave while a slow one has stopped reading."""
    await start(message_size=LONG, backlog=2**24)
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
        create_socket_client(URL) as client4,
        create_socket_client(URL) as slow_client,
    ):
        group_id = await create_group(client1)
        for client in slow_client, client2, client3, client4:
            await join_group(client, group_id)
        stop_reading(slow_client)
        for text in LONG_TEXTS[:60]:
            await slow_client.send_json(echo(text))
        await slow_client.send_json(to_all("now the server has filled its buffer"))
        for client in client1, client2, client3, client4:
            await client.wait_for_message_count(1)
            client.clear_messages()

        # A server that waits for the slow client would send the rest after they left.
        for text in LONG_TEXTS[:5]:
            await client1.send_json(message(group_id, text))
        for client in client2, client3, client4:
            await client.send_json(leave(group_id))
        for client in client2, client3, client4:
            await client.settle()
        resume_reading(slow_client)
        await client1.settle()

    left = group_left(group_id)
    for client in client2, client3, client4:
        heard = len(client.messages) - 1
        assert client.messages == [*client1.messages[:heard], left]


async def test_leaving_in_the_middle_of_a_broadcast(start: Start) -> None:
    """Client 1 sends while three members leave; nothing follows their GROUP_LEFT."""
    await start()
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
        create_socket_client(URL) as client4,
    ):
        group_id = await create_group(client1)
        for _ in range(5):
            for client in client2, client3, client4:
                client.clear_messages()
                await join_group(client, group_id)

            await client1.send_json(message(group_id))
            for client in client2, client3, client4:
                await client.send_json(leave(group_id))
            for client in client2, client3, client4:
                await client.settle()
                assert client.messages[-1] == group_left(group_id)


async def test_client_that_answers_no_ping_is_cut_off(start: Start) -> None:
    heartbeat = 0.5
    await start(heartbeat=heartbeat)

    async with (
        create_socket_client(URL) as client,
        create_socket_client(URL) as suspended_client,
        create_socket_client(URL, autoping=False) as mute_client,
    ):
        group_id = await create_group(suspended_client)
        stop_reading(suspended_client)
        await mute_client.settle()  # from now on, the server hears nothing from it
        silent_since = asyncio.get_running_loop().time()
        await mute_client.wait_for_close(1006, 2 * heartbeat)
        silence = asyncio.get_running_loop().time() - silent_since
        resume_reading(suspended_client)
        await suspended_client.wait_for_close(1006)
        await send(client, join(group_id))
        await send(client, to_all("HI"))

    assert silence > heartbeat  # the ping comes then; half of that to answer it
    assert client.messages == [unavailable(group_id), echo("HI")]


async def test_message_too_large(start: Start) -> None:
    await start(clients=2, message_size=1_000)
    largest_text = "x" * (999 - len('{"type": "ECHO", "value": ""}'))

    async with create_socket_client(URL) as client:
        for _ in range(3):  # each takes the place of the last one
            async with create_socket_client(URL) as bad_client:
                group_id = await create_group(bad_client)
                await send(bad_client, echo(largest_text))
                await bad_client.send_json(echo(largest_text + "x"))
                await bad_client.wait_for_close(1009)
            assert bad_client.messages == [echo(largest_text)]
            await send(client, join(group_id))
            assert client.messages.pop() == unavailable(group_id)
        await send(client, to_all("HI"))

    assert client.messages == [echo("HI")]


async def test_reply_is_not_longer_than_its_request(start: Start) -> None:
    await start()
    request = '{"type": "ECHO", "value": "Übung 🎉"}'

    async with utils.create_socket_client(URL) as client:
        await client.send_str(request)

    assert client.messages == [request]


async def test_one_client_too_many(start: Start) -> None:
    await start(clients=2)

    async with create_socket_client(URL) as client1:
        for _ in range(2):
            async with create_socket_client(URL) as client2:
                with pytest.raises(WSServerHandshakeError) as refusal:
                    async with create_socket_client(URL):
                        pass
                await send(client2, to_all("two of us"))
            assert client2.messages == [echo("two of us")]
            assert refusal.value.status == 503
            assert refusal.value.headers is not None
            assert int(refusal.value.headers["Retry-After"]) > 0
            assert refusal.value.headers["Connection"] == "close"

    assert client1.messages == [echo("two of us")] * 2


async def test_many_clients_at_once(start: Start) -> None:
    """Fifty clients connect at the same time; there is room for ten."""
    await start(clients=10)

    async with asyncio.timeout(2 * TIMEOUT), ClientSession() as session:
        connecting = [session.ws_connect(URL) for _ in range(50)]
        clients = await asyncio.gather(*connecting, return_exceptions=True)

    refused = [c for c in clients if isinstance(c, WSServerHandshakeError)]
    assert len(refused) == 40


@asynccontextmanager
async def connect() -> AsyncIterator[socket.socket]:
    """Connect a plain socket; in the end, reset the connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", PORT))
        yield connection
        at_once = struct.pack("ii", 1, 0)  # linger: on, 0 seconds, so closing resets
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)


async def receive_all(connection: socket.socket) -> bytes:
    """Return everything that a socket receives until the connection ends."""
    received = b""
    while more := await asyncio.get_running_loop().sock_recv(connection, 1_000):
        received += more
    return received


@pytest.mark.parametrize("sent", [b"", HANDSHAKE[:60]])
async def test_handshake_without_end(start: Start, sent: bytes) -> None:
    await start(heartbeat=0.1)

    async with create_socket_client(URL) as client:
        async with connect() as bad_client:
            bad_client.send(sent)
            end = receive_all(bad_client)
            received = await bounded(end, "the server to cut it off", 0.3)
        await send(client, to_all("HI"))

    assert received == b""
    assert client.messages == [echo("HI")]


@pytest.mark.parametrize("size", [0, 60, len(HANDSHAKE)])
async def test_clients_that_reset_in_their_handshake(start: Start, size: int) -> None:
    await start(clients=2)

    async with create_socket_client(URL) as client1:
        for _ in range(5):
            async with connect() as bad_client:
                bad_client.send(HANDSHAKE[:size])
            await client1.settle()
        async with create_socket_client(URL) as client2:
            await send(client2, to_all("two of us"))

    assert client1.messages == client2.messages == [echo("two of us")]


@pytest.mark.parametrize(
    "handshake", MALFORMED_HANDSHAKES.values(), ids=MALFORMED_HANDSHAKES
)
async def test_malformed_handshake(start: Start, handshake: bytes) -> None:
    await start()

    async with connect() as bad_client:
        bad_client.send(handshake)
        response = asyncio.get_running_loop().sock_recv(bad_client, 1_000)
        status = (await bounded(response, "a response")).split()[1]

    assert status == b"400"


def test_errors_of_ours_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    create_websocket_server(web.Application())

    server_logger.error("without an exception")
    server_logger.error("with one", exc_info=RuntimeError("ours"))

    assert [record.message for record in caplog.records] == [
        "without an exception",
        "with one",
    ]
    caplog.clear()  # or no_server_errors would object


async def test_groups_without_end(start: Start) -> None:
    await start(groups=2)
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        group_id = await create_group(client1)
        own_group_id = await create_group(client2)
        await join_group(client2, group_id)
        other_group_id = await create_group(client1)

        await send(client2, create("C"))
        await send(client2, join(other_group_id))
        assert client2.messages == [unavailable("C"), unavailable(other_group_id)]
        await join_group(client2, own_group_id)  # it is a member already
        for _ in range(3):  # each group that it leaves makes room for one
            await send(client2, leave(own_group_id))
            own_group_id = await create_group(client2)
        await send(client2, leave(own_group_id))
        await join_group(client2, other_group_id)
        client2.clear_messages()
        await send(client2, create("C"))
        await send(client2, message(group_id))
        await send(client2, message(other_group_id))

    assert client1.messages == [group_message(group_id), group_message(other_group_id)]
    assert client2.messages == [unavailable("C"), *client1.messages]


async def test_name_too_long(start: Start) -> None:
    await start(name_length=5)

    async with create_socket_client(URL) as client:
        for _ in range(2):
            await create_group(client, "Caf\u00e9🎉")
            await send(client, create("Cafe\u0301🎉"))

    assert client.messages == [unavailable("Cafe\u0301🎉")] * 2


async def test_default_limits(start: Start) -> None:
    limits = Limits()
    await start()
    largest_text = "x" * (16 * 1024 - 1 - len('{"type": "ECHO", "value": ""}'))

    async with create_socket_client(URL) as client:
        await send(client, create("x" * 129))
        for _ in range(100):
            await create_group(client, "x" * 128)
        await send(client, create("one too many"))
        await send(client, echo(largest_text))
        async with create_socket_client(URL) as bad_client:
            await bad_client.send_json(echo(largest_text + "x"))
            await bad_client.wait_for_close(1009)

    refusals = [unavailable("x" * 129), unavailable("one too many")]
    assert client.messages == [*refusals, echo(largest_text)]
    # These are not tested here; they only have to agree with the docstring of `Limits`.
    assert 500 < limits.clients < 1024
    assert 50 * limits.message_size < limits.backlog < 2**21
    assert 10 < limits.heartbeat < 60


async def test_server_stops(start: Start) -> None:
    """Fifty clients are connected, five of them do not read; the others are told."""
    server = await start(message_size=LONG, backlog=2**24)
    async with AsyncExitStack() as stack:
        connecting = [create_socket_client(URL) for _ in range(50)]
        clients = [await stack.enter_async_context(client) for client in connecting]
        for client in clients[:5]:
            stop_reading(client)
            for text in LONG_TEXTS[:60]:
                await client.send_json(echo(text))
            await client.send_json(to_all("HI"))
        for client in clients[5:]:
            await client.wait_for_message_count(5, 5 * TIMEOUT)  # this includes 30 MB

        await bounded(server.close(), "the server to stop", 2 * TIMEOUT)
        for client in clients[5:]:
            await client.wait_for_close(1001)
        for client in clients[:5]:
            resume_reading(client)
            await client.wait_for_close(1006)

    assert [client.messages for client in clients[5:]] == [[echo("HI")] * 5] * 45


async def test_messages_are_not_compressed(start: Start) -> None:
    await start()

    async with asyncio.timeout(2 * TIMEOUT), ClientSession() as session:
        client = await session.ws_connect(URL, compress=15)
        assert client.compress == 0


@asynccontextmanager
async def run_program(
    soft: int, hard: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the server as a program, with soft and hard limits of open files."""
    resource = pytest.importorskip("resource")
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-u", "-m", create_websocket_server.__module__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PORT": str(PORT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    try:
        assert process.stdout
        starting = process.stdout.readline()
        line = await bounded(starting, "the server to start", 10 * TIMEOUT)
        assert line.startswith(b"======== Running on http://127.0.0.1:")
        yield process
    finally:
        with suppress(ProcessLookupError):  # it has ended
            process.kill()
        await process.communicate()


async def test_program_raises_the_limit_of_open_files() -> None:
    async with run_program(64, 4096) as program:
        async with asyncio.timeout(5 * TIMEOUT), ClientSession() as session:
            clients = [await session.ws_connect(URL) for _ in range(100)]
            assert not any(client.closed for client in clients)
        program.terminate()
        ending = bounded(program.communicate(), "the program to end", 5 * TIMEOUT)
        _, errors = await ending

    assert errors == b""


async def test_program_says_that_it_cannot_open_enough_files() -> None:
    async with run_program(64, 128) as program:
        program.terminate()
        ending = bounded(program.communicate(), "the program to end", 5 * TIMEOUT)
        _, errors = await ending

    assert errors.count(b"\n") == 1
    assert b"1000 clients may need 2100 open files, not 128" in errors
