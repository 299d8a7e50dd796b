"""Tests of the server with bad clients, and of what the good ones notice."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from aiohttp import (
    WSServerHandshakeError,
)
from aiohttp.test_utils import TestServer

from .conftest import Start
from .messages import (
    LONG,
    LONG_TEXTS,
    URL,
    create_group,
    create_socket_client,
    echo,
    group_left,
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
from .utils import TIMEOUT, bounded

pytestmark = pytest.mark.usefixtures("no_server_errors")


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
