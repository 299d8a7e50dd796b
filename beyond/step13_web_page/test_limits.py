"""Tests of the WebSocket server with bad clients, and what good ones notice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
    TCPConnector,
    WSMessage,
    WSMsgType,
    WSServerHandshakeError,
)
from pytest_aiohttp import AiohttpServer

from .server import Limits
from .test_server import (
    PORT,
    URL,
    create,
    create_group,
    echo,
    fence,
    group_message,
    join,
    join_group,
    leave,
    message,
    send,
    unavailable,
)
from .utils import TestWebSocket, bounded, create_socket_client, start_server

# The system holds some 4 MB for a client that does not read: these are 10 MB.
LONG_TEXTS = [f"{number} {'x' * 100_000}" for number in range(100)]
LONG = 2**20  # bytes: room for each of them


def to_all(text: str) -> dict[str, object]:
    return {"type": "ECHO_TO_ALL", "value": text}


def transport_of(client: ClientWebSocketResponse) -> asyncio.Transport:
    """Return what a client reads by, to pause it: aiohttp has no public name for it."""
    assert client._conn is not None
    assert client._conn.transport is not None
    return client._conn.transport


def stop_reading(client: ClientWebSocketResponse) -> None:
    """Let a client read nothing more, as a program does that hangs.

    It answers no ping, either, like a computer that is suspended.
    """
    transport_of(client).pause_reading()


def resume_reading(client: ClientWebSocketResponse) -> None:
    """Let it read on, also what has come meanwhile."""
    transport_of(client).resume_reading()


@asynccontextmanager
async def create_bad_client(ending: str) -> AsyncIterator[TestWebSocket]:
    """Connect a client whose connection the server has to end: see how, at the end."""
    with pytest.raises(ConnectionError, match=ending):
        async with create_socket_client(PORT) as client:
            try:
                yield client
            finally:
                resume_reading(client)
            await bounded(client.listener, "the server to end the connection")


CUT_OFF = "before the client's close frame: (?!.*code)"


async def test_client_that_reads_nothing_is_cut_off(
    aiohttp_server: AiohttpServer,
) -> None:
    limits = Limits(message_size=LONG, backlog=2**16)
    await start_server(aiohttp_server, PORT, limits)
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_bad_client(CUT_OFF) as bad_client,
    ):
        group_id = await create_group(bad_client)
        await join_group(client2, group_id)

        stop_reading(bad_client)
        for text in LONG_TEXTS:
            await send(client1, to_all(text))
        await send(client2, leave(group_id))
        await send(client2, join(group_id))  # which has no members any more

    assert client1.messages == [echo(text) for text in LONG_TEXTS]
    left = {"type": "GROUP_LEFT", "value": group_id}
    assert client2.messages == [*client1.messages, left, unavailable(group_id)]
    assert bad_client.messages == client1.messages[: len(bad_client.messages)]
    assert len(bad_client.messages) < len(LONG_TEXTS)


async def test_client_that_reads_none_of_its_own_echoes(
    aiohttp_server: AiohttpServer,
) -> None:
    limits = Limits(message_size=LONG, backlog=2**16)
    await start_server(aiohttp_server, PORT, limits)

    async with create_socket_client(PORT) as client, ClientSession() as session:
        bad_client = await bounded(session.ws_connect(URL), "the handshake")
        stop_reading(bad_client)
        with pytest.raises(ConnectionError):
            for text in LONG_TEXTS * 2:
                await bounded(bad_client.send_json(echo(text)), "the server to read")
                await fence(client)
        await send(client, to_all("HI"))

    assert client.messages == [echo("HI")]


async def test_client_that_says_goodbye_and_does_not_read(
    aiohttp_server: AiohttpServer,
) -> None:
    limits = Limits(message_size=LONG, backlog=2**24)
    server = await start_server(aiohttp_server, PORT, limits)
    assert server.runner
    connected = server.runner.server
    assert connected

    async def see_a_connection_end(client: TestWebSocket) -> None:
        while len(connected.connections) == 2:
            await fence(client)

    async with (
        create_socket_client(PORT) as client,
        create_bad_client("after") as bad_client,
    ):
        stop_reading(bad_client)
        for text in LONG_TEXTS[:60]:
            await bad_client.send_json(echo(text))
        await bad_client.send_close()
        await bounded(see_a_connection_end(client), "the server to cut it off", 2)

    assert client.messages == []


async def test_client_that_falls_behind_misses_nothing(
    aiohttp_server: AiohttpServer,
) -> None:
    limits = Limits(message_size=LONG, backlog=2**24)
    await start_server(aiohttp_server, PORT, limits)

    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
    ):
        stop_reading(client2)
        for text in LONG_TEXTS[:60]:
            await send(client1, to_all(text))
        await client2.send_close()
        await fence(client1)
        resume_reading(client2)

    assert client1.messages == [echo(text) for text in LONG_TEXTS[:60]]
    assert client2.messages == client1.messages


async def test_ping_gets_one_pong(aiohttp_server: AiohttpServer) -> None:
    await start_server(aiohttp_server, PORT)

    async with asyncio.timeout(2), ClientSession() as session:
        client = await session.ws_connect(URL, autoping=False)
        await client.ping(b"HI")
        await client.send_json(echo())
        frames = [await client.receive() for _ in ("the pong", "the answer")]

    assert [frame.type for frame in frames] == [WSMsgType.PONG, WSMsgType.TEXT]
    assert frames[0].data == b"HI"


async def test_pings_without_reading_the_pongs(
    aiohttp_server: AiohttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    await start_server(aiohttp_server, PORT, Limits(backlog=2**16))

    async with create_socket_client(PORT) as client:
        async with create_bad_client(CUT_OFF) as bad_client:
            stop_reading(bad_client)
            with pytest.raises(ConnectionError):
                for number in range(100_000):
                    await bounded(bad_client.ping(b"x" * 125), "the server to read")
                    if number % 500 == 0:
                        await fence(client)
        await send(client, to_all("HI"))

    assert client.messages == [echo("HI")]
    assert caplog.text == ""


async def test_others_have_their_turn_in_a_flood(aiohttp_server: AiohttpServer) -> None:
    await start_server(aiohttp_server, PORT)

    async with (
        create_socket_client(PORT) as client,
        create_socket_client(PORT) as flooding_client,
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


async def test_nothing_comes_after_leaving_a_group(
    aiohttp_server: AiohttpServer,
) -> None:
    limits = Limits(message_size=LONG, backlog=2**24)
    await start_server(aiohttp_server, PORT, limits)
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_socket_client(PORT) as client3,
        create_socket_client(PORT) as client4,
        create_socket_client(PORT) as slow_client,
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

        # A server that waits for the slow client sends the rest when they have left.
        for text in LONG_TEXTS[:5]:
            await client1.send_json(message(group_id, text))
        for client in client2, client3, client4:
            await client.send_json(leave(group_id))
        for client in client2, client3, client4:
            await fence(client)
        resume_reading(slow_client)
        await fence(client1)

    left = {"type": "GROUP_LEFT", "value": group_id}
    for client in client2, client3, client4:
        heard = len(client.messages) - 1
        assert client.messages == [*client1.messages[:heard], left]


async def test_client_that_answers_no_ping_is_cut_off(
    aiohttp_server: AiohttpServer,
) -> None:
    await start_server(aiohttp_server, PORT, Limits(heartbeat=0.1))

    async with (
        create_socket_client(PORT) as client,
        asyncio.timeout(2),  # ws_connect alone would wait for minutes
        ClientSession() as session,
        create_bad_client(CUT_OFF) as suspended_client,
    ):
        group_id = await create_group(suspended_client)
        stop_reading(suspended_client)
        bad_client = await session.ws_connect(URL, autoping=False)
        ping = await bounded(bad_client.receive(), "a ping")
        end = await bounded(bad_client.receive(), "the server to cut it off", 0.2)
        await send(client, join(group_id))
        await send(client, to_all("HI"))

    assert ping == WSMessage(WSMsgType.PING, b"", "")
    assert end.type is WSMsgType.CLOSED
    assert client.messages == [unavailable(group_id), echo("HI")]


async def test_message_too_large(aiohttp_server: AiohttpServer) -> None:
    await start_server(aiohttp_server, PORT, Limits(message_size=1_000))
    largest_text = "x" * (999 - len('{"type": "ECHO", "value": ""}'))

    async with create_socket_client(PORT) as client:
        for _ in range(2):
            async with create_bad_client("before .*, with code 1009") as bad_client:
                await send(bad_client, echo(largest_text))
                await bad_client.send_json(echo(largest_text + "x"))
            assert bad_client.messages == [echo(largest_text)]
        await send(client, to_all("HI"))

    assert client.messages == [echo("HI")]


async def test_one_client_too_many(aiohttp_server: AiohttpServer) -> None:
    await start_server(aiohttp_server, PORT, Limits(clients=2))

    async with create_socket_client(PORT) as client1:
        for _ in range(2):
            async with create_socket_client(PORT) as client2:
                with pytest.raises(WSServerHandshakeError) as refusal:
                    async with create_socket_client(PORT):
                        pass
                await send(client2, to_all("two of us"))
            assert client2.messages == [echo("two of us")]
            assert refusal.value.status == 503
            assert refusal.value.headers is not None
            assert int(refusal.value.headers["Retry-After"]) > 0
            assert refusal.value.headers["Connection"] == "close"

    assert client1.messages == [echo("two of us")] * 2


async def test_many_clients_at_once(aiohttp_server: AiohttpServer) -> None:
    await start_server(aiohttp_server, PORT, Limits(clients=10))

    async with asyncio.timeout(2), ClientSession() as session:
        connecting = [session.ws_connect(URL) for _ in range(50)]
        clients = await asyncio.gather(*connecting, return_exceptions=True)

    refused = [c for c in clients if isinstance(c, WSServerHandshakeError)]
    assert len(refused) == 40


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgr"])
async def test_handshake_without_end(
    aiohttp_server: AiohttpServer, sent: bytes
) -> None:
    await start_server(aiohttp_server, PORT, Limits(heartbeat=0.1))

    async with create_socket_client(PORT) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write(sent)
        received = await bounded(reader.read(), "the server to cut it off", 0.3)
        writer.close()
        await send(client, to_all("HI"))

    assert received == b""
    assert client.messages == [echo("HI")]


async def test_groups_without_end(aiohttp_server: AiohttpServer) -> None:
    await start_server(aiohttp_server, PORT, Limits(groups=2))
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
    ):
        group_id = await create_group(client1)
        own_group_id = await create_group(client2)
        await join_group(client2, group_id)
        other_group_id = await create_group(client1)

        await send(client2, create("C"))
        await send(client2, join(other_group_id))
        assert client2.messages == [unavailable("C"), unavailable(other_group_id)]
        await join_group(client2, own_group_id)  # once more
        await send(client2, leave(own_group_id))
        client2.clear_messages()
        await join_group(client2, other_group_id)
        await send(client2, message(group_id))
        await send(client2, message(other_group_id))

    assert client1.messages == [group_message(group_id), group_message(other_group_id)]
    assert client2.messages == client1.messages


async def test_default_limits(aiohttp_server: AiohttpServer) -> None:
    limits = Limits()
    await start_server(aiohttp_server, PORT, limits)
    largest_text = "x" * (16 * 1024 - 1 - len('{"type": "ECHO", "value": ""}'))

    async with create_socket_client(PORT) as client:
        for _ in range(100):
            await create_group(client)
        await send(client, create("one too many"))
        await send(client, echo(largest_text))
        async with create_bad_client("before .*, with code 1009") as bad_client:
            await bad_client.send_json(echo(largest_text + "x"))

    assert client.messages == [unavailable("one too many"), echo(largest_text)]
    # No test waits for these. It sees only that they keep to the docstring of `Limits`.
    assert 500 < limits.clients < 1024
    assert 50 * limits.message_size < limits.backlog < 2**21
    assert 10 < limits.heartbeat < 60


async def test_server_stops(aiohttp_server: AiohttpServer) -> None:
    limits = Limits(message_size=LONG, backlog=2**24)
    server = await start_server(aiohttp_server, PORT, limits)
    connector = TCPConnector(limit=0)  # or only 100 connections at a time
    async with ClientSession(connector=connector) as session, asyncio.timeout(5):
        clients = [await session.ws_connect(URL) for _ in range(100)]
        for client in clients[:3]:
            stop_reading(client)
            for text in LONG_TEXTS[:60]:
                await client.send_json(echo(text))
            await client.send_json(to_all("HI"))
        frames = [[await client.receive() for _ in range(3)] for client in clients[3:]]

        await bounded(server.close(), "the server to stop")
        last_frames = [await client.receive() for client in clients[3:]]

    assert [[frame.json() for frame in three] for three in frames] == [
        [echo("HI")] * 3
    ] * 97
    assert last_frames == [WSMessage(WSMsgType.CLOSE, 1001, "")] * 97


async def test_messages_are_not_compressed(aiohttp_server: AiohttpServer) -> None:
    await start_server(aiohttp_server, PORT)

    async with asyncio.timeout(2), ClientSession() as session:
        client = await session.ws_connect(URL, compress=15)
        assert client.compress == 0
