"""More tests of the server with bad clients."""

import asyncio

import pytest
from aiohttp import (
    ClientSession,
    WSMsgType,
)

from .. import utils
from ..conftest import Start
from ..connection import Limits
from ..messages import (
    LONG,
    LONG_TEXTS,
    URL,
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
from ..utils import TIMEOUT, TestWebSocket, bounded

pytestmark = pytest.mark.usefixtures("no_server_errors")


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
        for _ in range(200):
            for _ in range(500):
                await bad_client.ping(b"x" * 125)
            await client.settle()
            if bad_client.closed:
                break
        resume_reading(bad_client)
        await bad_client.wait_for_close(1006)
        await send(client, to_all("HI"))

    assert client.messages == [echo("HI")]


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


async def test_reply_is_not_longer_than_its_request(start: Start) -> None:
    await start()
    request = '{"type": "ECHO", "value": "Übung 🎉"}'

    async with utils.create_socket_client(URL) as client:
        await client.send_str(request)

    assert client.messages == [request]


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


async def test_messages_are_not_compressed(start: Start) -> None:
    await start()

    async with asyncio.timeout(2 * TIMEOUT), ClientSession() as session:
        client = await session.ws_connect(URL, compress=15)
        assert client.compress == 0
