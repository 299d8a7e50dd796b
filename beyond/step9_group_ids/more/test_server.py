"""More integration tests of the WebSocket server."""

import asyncio
import gc
import sys
from http import HTTPStatus

import pytest
from aiohttp import ClientSession, web
from pytest_aiohttp import AiohttpServer

from ..messages import (
    TEXTS,
    URL,
    create_group,
    create_socket_client,
    cut_off,
    echo,
    group_left,
    group_message,
    join,
    join_group,
    leave,
    message,
    send,
    to_all,
    unavailable,
)
from ..server import PATH, create_websocket_server
from ..utils import TIMEOUT, bounded, start_server
from .invalid import INVALID, INVALID_MESSAGES

pytestmark = pytest.mark.usefixtures("server")


async def test_given_echo_server_sends_the_value_back_once() -> None:
    test_message = {"type": "ECHO", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(URL) as client:
        # Send client message
        await client.send_json(test_message)
        await client.wait_for_message(test_message)

    # Perform assertions on the response
    assert client.messages == [test_message]


async def test_given_echo_times_3_server_sends_the_value_back_three_times() -> None:
    test_message = {"type": "ECHO_TIMES_3", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(URL) as client:
        # Send client message
        await client.send_json(test_message)
        await client.wait_for_message_count(3)

    # Perform assertions on the response
    assert client.messages == [echo(test_message["value"])] * 3


async def test_binary_frame_with_json() -> None:
    request = ' {"value":"Übung" , "more": [1.5], "type": "ECHO"}\n'

    async with create_socket_client(URL) as client:
        await client.send_bytes(request.encode("utf-8"))
        await client.send_bytes(request.encode("utf-16"))
        await client.send_bytes(request.encode("latin-1"))
        await client.send_bytes(b"")
        await client.send_str(request)
        await client.send_bytes(request.encode("utf-8"))

    uebung = echo("Übung")
    assert client.messages == [uebung, *[INVALID] * 3, uebung, uebung]


@pytest.mark.parametrize(
    "invalid_message", INVALID_MESSAGES.values(), ids=INVALID_MESSAGES
)
async def test_invalid_message(invalid_message: str) -> None:
    async with create_socket_client(URL) as other:
        async with create_socket_client(URL) as client:
            for _ in range(3):
                await client.send_str(invalid_message)
                await client.send_json({"type": "ECHO", "value": "still here"})
            await client.wait_for_message_count(6)
        await other.send_json({"type": "ECHO", "value": "me too"})

    assert client.messages == [INVALID, echo("still here")] * 3
    assert other.messages == [echo("me too")]


async def test_given_echo_to_all_server_sends_the_value_to_every_client_once() -> None:
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}

    # Create test clients
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
    ):
        # Send client message
        await client1.send_json(test_message)
        await client1.wait_for_message(echo(test_message["value"]))
        await client2.wait_for_message(echo(test_message["value"]))
        await client3.wait_for_message(echo(test_message["value"]))

    # Perform assertions on the responses
    assert client1.messages == [echo(test_message["value"])]
    assert client2.messages == [echo(test_message["value"])]
    assert client3.messages == [echo(test_message["value"])]


@pytest.mark.parametrize("audience", ["all", "group"])
async def test_client_comes_while_a_broadcast_waits(
    monkeypatch: pytest.MonkeyPatch, audience: str
) -> None:
    is_waiting, may_go_on = asyncio.Event(), asyncio.Event()
    send_str = web.WebSocketResponse.send_str

    async def slow_send_str(socket: web.WebSocketResponse, text: str) -> None:
        is_waiting.set()
        await may_go_on.wait()
        await send_str(socket, text)

    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        group_id = await create_group(client1)
        await join_group(client2, group_id)
        request, heard = message(group_id), group_message(group_id)
        if audience == "all":
            request, heard = to_all(), echo()

        # From now on each send has to wait, as if the client's buffers were full.
        monkeypatch.setattr(web.WebSocketResponse, "send_str", slow_send_str)
        await client1.send_json(request)
        await bounded(is_waiting.wait(), "the server to send")
        async with create_socket_client(URL) as client3:
            is_waiting.clear()
            await client3.send_json(join(group_id))
            await bounded(is_waiting.wait(), "the server to answer")
            may_go_on.set()

    assert client1.messages == client2.messages == [heard]


def count_connections() -> int:
    """Return how many connections the servers in this process still hold."""
    gc.collect()
    return sum(issubclass(type(it), web.WebSocketResponse) for it in gc.get_objects())


async def test_server_forgets_clients_that_have_gone() -> None:
    connections = count_connections()

    async with (
        create_socket_client(URL) as client1,
        asyncio.timeout(2 * TIMEOUT),
        ClientSession() as session,
    ):
        async with session.get(URL.replace("ws", "http", 1)) as response:
            assert response.status == HTTPStatus.BAD_REQUEST  # it is not a handshake
        group_id = await create_group(client1)
        client2 = await session.ws_connect(URL)
        await client2.send_json(join(group_id))
        await client2.receive()
        assert count_connections() > connections  # so it counts this server's
        cut_off(client2)

    async def forget() -> None:
        while count_connections() > connections:
            await asyncio.sleep(0.001)

    await bounded(forget(), "the server to forget its clients")


async def test_server_forgets_groups_without_members() -> None:
    blocks = []

    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        for _ in range(5):
            for _ in range(100):
                group_id = await create_group(client1)
                await join_group(client2, group_id)
                await send(client1, leave(group_id))
                await send(client2, leave(group_id))
            client1.clear_messages()
            client2.clear_messages()
            gc.collect()
            blocks.append(sys.getallocatedblocks())

    # Keeping anything of 100 groups takes at least 100 blocks of memory. The first
    # rounds do not count, because they fill caches.
    assert blocks[-1] - blocks[-2] < 50


async def test_names_come_back_as_they_are() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        for name in TEXTS:
            await join_group(client2, await create_group(client1, name), name)


async def test_outsiders_are_refused_and_change_no_group() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
    ):
        group1 = await create_group(client1, "A")
        group2 = await create_group(client2, "A")

        for client in [client2, client3] * 2:
            await send(client, message(group1, "from outside"))
            await client1.settle()
            assert client1.messages == []
            await send(client, leave(group1))
            await send(client, join("A"))  # a name is not an id
        await send(client1, message(group1, "to 1"))
        await send(client2, message(group2, "to 2"))

    refusals = [unavailable(group1), unavailable(group1), unavailable("A")] * 2
    assert client1.messages == [group_message(group1, "to 1")]
    assert client2.messages == [*refusals, group_message(group2, "to 2")]
    assert client3.messages == refusals


async def test_invalid_messages_about_a_group() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as outsider,
    ):
        group_id = await create_group(client1)
        await join_group(client2, group_id)
        value = {"groupId": group_id, "groupMessage": "HI"}

        invalid_messages: list[object] = [
            message(group_id, 1),
            message(group_id, None),
            message([group_id]),
            {"type": "MESSAGE_GROUP", "value": group_id},
            {"type": "LEAVE_GROUP", "value": {"groupId": group_id}},
            *[{"type": kind, "value": value} for kind in ("ECHO", "LEAVE_GROUP", "")],
            *[{"type": kind, "value": group_id} for kind in ("leave_group", "")],
            {"value": group_id},
        ]
        for invalid_message in invalid_messages:
            await send(client2, invalid_message)
            await send(outsider, invalid_message)  # the reply does not reveal the group
        await send(client1, message(group_id))

    assert client1.messages == [group_message(group_id)]
    refusals = [INVALID] * len(invalid_messages)
    assert client2.messages == [*refusals, group_message(group_id)]
    assert outsider.messages == refusals


async def test_client_that_joins_and_goes_at_once() -> None:
    async with create_socket_client(URL) as client1:
        group_id = await create_group(client1)
        async with create_socket_client(URL) as client2:
            await client2.send_json(join(group_id))
            await client2.close()
        await send(client1, message(group_id))
        await send(client1, leave(group_id))
        await send(client1, join(group_id))

    replies = [group_message(group_id), group_left(group_id), unavailable(group_id)]
    assert client1.messages == replies
    assert len(client2.messages) == 1


async def test_last_member_leaves_as_another_joins() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        for _ in range(5):
            group_id = await create_group(client1)
            await client2.send_json(join(group_id))
            await client1.send_json(leave(group_id))
            await client1.settle()
            await client2.settle()
            await send(client2, message(group_id))
            is_member = unavailable(group_id) not in client2.messages
            last = group_message(group_id) if is_member else unavailable(group_id)
            assert client2.messages[-1] == last
            client2.clear_messages()


async def test_message_skips_disconnected_members() -> None:
    """Ten members vanish during a message; the two that stay miss nothing."""
    async with (
        create_socket_client(URL) as client1,
        asyncio.timeout(2 * TIMEOUT),  # ws_connect() itself would wait for minutes
        ClientSession() as session,
    ):
        group_id = await create_group(client1)
        # A set has no order: with ten, some come before client2 and some after it.
        vanishing_clients = [await session.ws_connect(URL) for _ in range(5)]
        async with create_socket_client(URL) as client2:
            vanishing_clients += [await session.ws_connect(URL) for _ in range(5)]
            await join_group(client2, group_id)
            for client in vanishing_clients:
                await client.send_json(join(group_id))
                await client.receive()

            # The server sees all of this at once. One vanishes while it is answered.
            await client1.send_json(message(group_id))
            await vanishing_clients[0].send_json({"type": "ECHO_TIMES_3", "value": ""})
            await vanishing_clients[0].ping()
            for client in vanishing_clients:
                cut_off(client)
            await client1.settle()
            await client2.send_json(message(group_id))

    assert client1.messages == [group_message(group_id)] * 2
    assert client2.messages == [group_message(group_id)] * 2


async def test_servers_share_nothing(aiohttp_server: AiohttpServer) -> None:
    other_app = web.Application()
    create_websocket_server(other_app)
    other_server = await start_server(aiohttp_server, other_app, 0)
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(other_server.make_url(PATH)) as client2,
    ):
        group_id = await create_group(client1)
        await send(client2, join(group_id))
        await send(client1, message(group_id))
        await send(client2, to_all("HO"))

    assert client1.messages == [group_message(group_id)]
    assert client2.messages == [unavailable(group_id), echo("HO")]


@pytest.mark.parametrize("group_id", ["", "A", "*", "x" * 43, "0", " <Å>\r\n\0"])
async def test_unknown_group_is_unavailable(group_id: str) -> None:
    async with create_socket_client(URL) as other:
        async with create_socket_client(URL) as client:
            for request in [join, leave, message] * 2:
                await client.send_json(request(group_id))
            await client.wait_for_message_count(6)
        await other.send_json({"type": "ECHO", "value": "me too"})

    assert client.messages == [unavailable(group_id)] * 6
    assert other.messages == [echo("me too")]
