"""Integration tests of the WebSocket server."""

import asyncio
import json
import re
from contextlib import suppress
from itertools import count
from socket import AF_INET, SHUT_RDWR, SOCK_STREAM, fromfd

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .utils import (
    SocketState,
    TestWebSocket,
    compute_port,
    create_socket_client,
    start_server,
)

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"
NUMBERS = count(1)
TEXTS = [
    "first",
    "first",
    "",
    " <b>Cafe\u0301</b>\r\n\0🎉 ",
    '{"type": "ECHO", "value": "HI"}',
    "INVALID_MESSAGE",
    "x" * 126,  # frames change their form at 126
    "y" * 65_536,  # and at 65,536 bytes
    "last",
]


def echo(text: str = "HI") -> dict[str, object]:
    return {"type": "ECHO", "value": text}


def create(name: str) -> dict[str, object]:
    return {"type": "CREATE_GROUP", "value": name}


def join(group_id: str) -> dict[str, object]:
    return {"type": "JOIN_GROUP", "value": group_id}


def leave(group_id: str) -> dict[str, object]:
    return {"type": "LEAVE_GROUP", "value": group_id}


def message(group_id: object, text: object = "HI") -> dict[str, object]:
    value = {"groupId": group_id, "groupMessage": text}
    return {"type": "MESSAGE_GROUP", "value": value}


def group_message(group_id: str, text: str = "HI") -> dict[str, object]:
    value = {"groupId": group_id, "groupMessage": text}
    return {"type": "GROUP_MESSAGE", "value": value}


def unavailable(group_id: str) -> dict[str, object]:
    return {"type": "GROUP_UNAVAILABLE", "value": group_id}


INVALID_MESSAGES = {
    "empty": "",
    "not JSON": "This is a test message",
    "single quotes": "{'type': 'ECHO', 'value': 'HI'}",
    "nested too deeply": '{"type": "ECHO", "value": ' + "[" * 100_000,
    "null": "null",
    "a number": "1",
    "a string": r'"{\"type\": \"ECHO\", \"value\": \"HI\"}"',
    "a list": '[{"type": "ECHO", "value": "HI"}]',
    "an object and more": '{"type": "ECHO", "value": "HI"} {}',
    "NaN": '{"type": "ECHO", "value": "HI", "more": NaN}',
    "lone surrogate": r'{"type": "ECHO", "value": "\ud800"}',
    "no type": '{"value": "HI"}',
    "type a list": '{"type": ["ECHO"], "value": "HI"}',
    "type in small letters": '{"type": "echo", "value": "HI"}',
    "type with a space": '{"type": "ECHO ", "value": "HI"}',
    "no value": '{"type": "ECHO"}',
    "ECHO a number": '{"type": "ECHO", "value": 1}',
    "ECHO true": '{"type": "ECHO", "value": true}',
    "ECHO an object": '{"type": "ECHO", "value": {"value": "HI"}}',
    "ECHO null": '{"type": "ECHO", "value": null}',
    "ECHO_TIMES_3 null": '{"type": "ECHO_TIMES_3", "value": null}',
    "ECHO_TO_ALL null": '{"type": "ECHO_TO_ALL", "value": null}',
    "ECHO_TO_ALL an object": '{"type": "ECHO_TO_ALL", "value": {}}',
    "CREATE_GROUP a number": '{"type": "CREATE_GROUP", "value": 1}',
    "CREATE_GROUP no value": '{"type": "CREATE_GROUP"}',
    "JOIN_GROUP null": '{"type": "JOIN_GROUP", "value": null}',
    "JOIN_GROUP a list": '{"type": "JOIN_GROUP", "value": []}',
    "LEAVE_GROUP null": '{"type": "LEAVE_GROUP", "value": null}',
    "MESSAGE_GROUP a string": '{"type": "MESSAGE_GROUP", "value": "X"}',
    "no group message": '{"type": "MESSAGE_GROUP", "value": {"groupId": "X"}}',
    "ECHO a group message": json.dumps({**message("X"), "type": "ECHO"}),
    "group message a number": json.dumps(message("X", 1)),
    "group id a number": json.dumps(message(1)),
}
INVALID = {"type": "INVALID_MESSAGE", "value": None}


async def fence(client: TestWebSocket) -> None:
    """Wait until the server, which answers in order, has dealt with all from `client`.

    What others had made it send to `client` by then has come, too.
    """
    answer = echo(f"fence {next(NUMBERS)}")  # a text that occurs nowhere else
    await client.send_json(answer)
    await client.wait_for_message(answer)
    client.messages.remove(answer)


async def send(client: TestWebSocket, request: object) -> None:
    """Send a request, and wait until the server has dealt with it."""
    await client.send_json(request)
    await fence(client)


async def create_group(client: TestWebSocket, name: str = "A") -> str:
    """Create a group, and return its id, which only the reply can tell."""
    await send(client, create(name))
    reply = client.messages.pop()
    group_id = reply["value"]["groupId"]
    value = {"groupId": group_id, "groupName": name}
    assert reply == {"type": "GROUP_CREATED", "value": value}
    return str(group_id)


async def join_group(client: TestWebSocket, group_id: str, name: str = "A") -> None:
    """Join a group, and see it confirmed."""
    await send(client, join(group_id))
    value = {"groupId": group_id, "groupName": name}
    assert client.messages.pop() == {"type": "GROUP_JOINED", "value": value}


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server; pytest-aiohttp stops it after the test."""
    return await start_server(aiohttp_server, PORT)


async def test_given_echo_server_sends_the_value_back_once() -> None:
    test_message = {"type": "ECHO", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(PORT) as client:
        # Send client message
        await client.send_json(test_message)
        await client.wait_for_message(test_message)

    # Perform assertions on the response
    assert client.messages == [test_message]


async def test_given_echo_times_3_server_sends_the_value_back_three_times() -> None:
    test_message = {"type": "ECHO_TIMES_3", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(PORT) as client:
        # Send client message
        await client.send_json(test_message)
        await client.wait_for_message_count(3)

    # Perform assertions on the response
    assert client.messages == [echo("This is a test message")] * 3


async def test_replies_go_to_their_client_in_order() -> None:
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_socket_client(PORT) as client3,
    ):
        for text in TEXTS:
            await client3.send_json(echo(text))
            await client2.send_json({"type": "ECHO_TIMES_3", "value": text})
            await client2.send_json(echo("once"))
        await client1.send_json({"type": "ECHO_TIMES_3", "value": "only this"})
        await client1.send_json(echo("and this"))

    assert client1.messages == [*[echo("only this")] * 3, echo("and this")]
    replies = [reply for text in TEXTS for reply in (text, text, text, "once")]
    assert client2.messages == [*map(echo, replies)]
    assert client3.messages == [*map(echo, TEXTS)]


async def test_binary_frame_with_json() -> None:
    request = ' {"value":"Übung" , "more": [1.5], "type": "ECHO"}\n'

    async with create_socket_client(PORT) as client:
        await client.send_bytes(request.encode("utf-8"))
        await client.send_bytes(request.encode("utf-16"))
        await client.send_bytes(request.encode("latin-1"))
        await client.send_bytes(b"")
        await client.send_str(request)
        await client.send_bytes(request.encode("utf-8"))

    uebung = echo("Übung")
    assert client.messages == [uebung, INVALID, INVALID, INVALID, uebung, uebung]


@pytest.mark.parametrize(
    "invalid_message", INVALID_MESSAGES.values(), ids=INVALID_MESSAGES
)
async def test_invalid_message(invalid_message: str) -> None:
    async with create_socket_client(PORT) as other:
        async with create_socket_client(PORT) as client:
            for _ in range(3):
                await client.send_str(invalid_message)
                await client.send_json(echo("still here"))
            await client.wait_for_message_count(6)
        await other.send_json(echo("me too"))

    assert client.messages == [INVALID, echo("still here")] * 3
    assert other.messages == [echo("me too")]


async def test_given_echo_to_all_server_sends_the_value_to_every_client_once() -> None:
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}

    # Create test clients
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_socket_client(PORT) as client3,
    ):
        # Send client message
        await client1.send_json(test_message)
        await client1.wait_for_message(echo("This is a test message"))
        await client2.wait_for_message(echo("This is a test message"))
        await client3.wait_for_message(echo("This is a test message"))

    # Perform assertions on the responses
    assert client1.messages == [echo("This is a test message")]
    assert client2.messages == [echo("This is a test message")]
    assert client3.messages == [echo("This is a test message")]


async def test_broadcast_to_whoever_is_connected() -> None:
    async with create_socket_client(PORT) as client1:
        for _ in range(2):
            async with (
                create_socket_client(PORT) as client2,
                create_socket_client(PORT) as client3,
            ):
                await client3.send_json({"type": "ECHO_TIMES_3", "value": "for 3"})
                for text in TEXTS:
                    await client3.send_json({"type": "ECHO_TO_ALL", "value": text})
                await client3.send_json(echo("for 3"))
            # Client 3 leaves first: when it has left, all that it sent is dealt with.
            assert client3.messages == [*map(echo, [*["for 3"] * 3, *TEXTS, "for 3"])]
            assert client2.messages == [*map(echo, TEXTS)]
        await client1.send_str("This is an invalid message")
        await client1.send_json({"type": "ECHO_TO_ALL", "value": "for who is left"})

    assert client1.messages[: 2 * len(TEXTS)] == [*map(echo, TEXTS * 2)]
    assert client1.messages[2 * len(TEXTS) :] == [INVALID, echo("for who is left")]


def cut_off(client: ClientWebSocketResponse) -> None:
    """End the connection without a close frame, as a crash of the client does."""
    fileno = client.get_extra_info("socket").fileno()
    with fromfd(fileno, AF_INET, SOCK_STREAM) as connection:
        connection.shutdown(SHUT_RDWR)


async def test_broadcast_skips_disconnected_clients() -> None:
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}

    async with (
        create_socket_client(PORT) as client1,
        asyncio.timeout(2),  # ws_connect alone would wait for minutes
        ClientSession() as session,
    ):
        # The server keeps no order: so some come before client2, and some after it.
        vanishing_clients = [await session.ws_connect(URL) for _ in range(5)]
        async with create_socket_client(PORT) as client2:
            vanishing_clients += [await session.ws_connect(URL) for _ in range(5)]

            await client1.send_json(test_message)
            # The server hears of it all at once: the message, and ten clients cut off.
            for client in vanishing_clients:
                cut_off(client)
            await client1.send_close()
            await client1.wait_until(SocketState.CLOSED)
            await client2.send_json(test_message)

    assert client1.messages == [echo("This is a test message")]
    assert client2.messages == [echo("This is a test message")] * 2


@pytest.mark.parametrize("group_id", ["", "A", "*", "x" * 43, "0", " <Å>\r\n\0"])
async def test_unknown_group_is_unavailable(group_id: str) -> None:
    async with create_socket_client(PORT) as other:
        async with create_socket_client(PORT) as client:
            for request in [join, leave, message] * 2:
                await client.send_json(request(group_id))
            await client.wait_for_message_count(6)
        await other.send_json(echo("me too"))

    assert client.messages == [unavailable(group_id)] * 6
    assert other.messages == [echo("me too")]


async def test_group_ids_are_distinct_and_hard_to_guess(
    aiohttp_server: AiohttpServer,
) -> None:
    other_server = await start_server(aiohttp_server, 0)
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_socket_client(other_server.port or 0) as client3,
    ):
        clients = [client1, client2, client3] * 20
        names = ["A", "A", "B", "", "x" * 126, " <Å> "] * 10
        group_ids = [
            await create_group(client, name)
            for client, name in zip(clients, names, strict=True)
        ]

    # 128 bits take 22 characters at least. Counted, they would begin, or end, alike.
    assert all(re.fullmatch(r"[\w-]{22,}", group_id) for group_id in group_ids)
    assert len({group_id[:8] for group_id in group_ids}) == len(group_ids)
    assert len({group_id[-8:] for group_id in group_ids}) == len(group_ids)


async def test_names_come_back_as_they_are() -> None:
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
    ):
        for name in TEXTS:
            await join_group(client2, await create_group(client1, name), name)


async def test_given_message_group_server_sends_it_to_members_once_only() -> None:
    # Create test clients
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_socket_client(PORT) as client3,
    ):
        group_id = await create_group(client1)
        await join_group(client2, group_id)

        # Send client message
        await client2.send_json(message(group_id))
        await client1.wait_for_message(group_message(group_id))
        await client2.wait_for_message(group_message(group_id))

    # Perform assertions on the responses
    assert client1.messages == [group_message(group_id)]
    assert client2.messages == [group_message(group_id)]
    assert client3.messages == []


async def test_members_of_two_groups() -> None:
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_socket_client(PORT) as client3,
        create_socket_client(PORT) as client4,
        create_socket_client(PORT) as client5,
    ):
        group1 = await create_group(client1, "A")
        group2 = await create_group(client5, "A")
        for client in client2, client3, client4:
            await join_group(client, group1)

        for text in TEXTS:
            for client in client1, client2, client3, client4:
                await send(client, message(group1, text))
            await send(client5, message(group2, text))

    replies = [group_message(group1, text) for text in TEXTS for _ in range(4)]
    assert client1.messages == client2.messages == replies
    assert client3.messages == client4.messages == replies
    assert client5.messages == [group_message(group2, text) for text in TEXTS]


async def test_member_of_several_groups() -> None:
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
    ):
        groups = [await create_group(client1, name) for name in ("A", "B", "A")]
        for group_id, name in zip(groups[:2], "AB", strict=True):
            await join_group(client2, group_id, name)
            await join_group(client2, group_id, name)  # once more changes nothing

        for client in client1, client2:
            for group_id in groups:
                await send(client, message(group_id, "HO"))

    heard = [group_message(group_id, "HO") for group_id in groups]
    assert client1.messages == [*heard, *heard[:2]]
    assert client2.messages == [*heard[:2], *heard[:2], unavailable(groups[2])]


async def test_outsiders_are_refused_and_change_no_group() -> None:
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_socket_client(PORT) as client3,
    ):
        group1 = await create_group(client1, "A")
        group2 = await create_group(client2, "A")

        for client in [client2, client3] * 2:
            await send(client, message(group1, "from outside"))
            await fence(client1)
            assert client1.messages == []
            await send(client, leave(group1))
            await send(client, join("A"))  # a name is no id
        await send(client1, message(group1, "to 1"))
        await send(client2, message(group2, "to 2"))

    refusals = [unavailable(group1), unavailable(group1), unavailable("A")] * 2
    assert client1.messages == [group_message(group1, "to 1")]
    assert client2.messages == [*refusals, group_message(group2, "to 2")]
    assert client3.messages == refusals


async def test_leave_one_group_and_come_back() -> None:
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_socket_client(PORT) as client3,
    ):
        group1 = await create_group(client1)
        group2 = await create_group(client1)
        for client in client2, client3:
            await join_group(client, group1)
            await join_group(client, group2)

        for _ in range(2):
            await send(client1, leave(group1))
            await send(client1, leave(group1))
            await send(client2, message(group1, "without 1"))
            await send(client1, message(group1, "from outside"))
            await send(client1, message(group2, "still here"))
            await join_group(client1, group1)
            await send(client1, message(group1, "back"))

    left = {"type": "GROUP_LEFT", "value": group1}
    still, back = group_message(group2, "still here"), group_message(group1, "back")
    no = unavailable(group1)
    assert client1.messages == [left, no, no, still, back] * 2
    assert client2.messages == [group_message(group1, "without 1"), still, back] * 2
    assert client3.messages == client2.messages


async def test_invalid_messages_about_a_group() -> None:
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_socket_client(PORT) as outsider,
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
            await send(outsider, invalid_message)  # no reply tells that it exists
        await send(client1, message(group_id))

    assert client1.messages == [group_message(group_id)]
    refusals = [INVALID] * len(invalid_messages)
    assert client2.messages == [*refusals, group_message(group_id)]
    assert outsider.messages == refusals


@pytest.mark.parametrize("way", ["leaves it", "leaves", "vanishes"])
async def test_group_without_members_is_deleted(way: str) -> None:
    async with create_socket_client(PORT) as client1:
        with suppress(*[ConnectionError] if way == "vanishes" else []):
            async with create_socket_client(PORT) as client2:
                lasting = await create_group(client2, "lasting")
                await join_group(client1, lasting, "lasting")
                group_id = await create_group(client1)
                await join_group(client2, group_id)
                await send(client1, leave(group_id))
                await join_group(client1, group_id)  # not empty, so it is there
                await send(client1, leave(group_id))
                if way == "leaves it":
                    await send(client2, leave(group_id))
                elif way == "vanishes":
                    cut_off(client2)
                    await client2.wait_until(SocketState.CLOSED)

        client1.clear_messages()
        for request in join, leave, message:
            await send(client1, request(group_id))
        await send(client1, message(lasting, "alone"))

    assert client1.messages == [
        *[unavailable(group_id)] * 3,
        group_message(lasting, "alone"),
    ]


async def test_broadcast_to_members_and_others() -> None:
    broadcast = {"type": "ECHO_TO_ALL", "value": "to all"}

    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(PORT) as client2,
        create_socket_client(PORT) as client3,
    ):
        group_id = await create_group(client1)
        await join_group(client2, group_id)

        for _ in range(2):
            await send(client1, echo("to me"))
            await send(client1, broadcast)
            await send(client2, broadcast)
            await send(client3, echo("to me"))
            await send(client3, broadcast)
        await send(client1, message(group_id))

    to_me, to_all, to_group = echo("to me"), echo("to all"), group_message(group_id)
    assert client1.messages == [*[to_me, to_all, to_all, to_all] * 2, to_group]
    assert client2.messages == [*[to_all, to_all, to_all] * 2, to_group]
    assert client3.messages == [to_all, to_all, to_me, to_all] * 2


async def test_message_skips_disconnected_members() -> None:
    async with (
        create_socket_client(PORT) as client1,
        asyncio.timeout(2),  # ws_connect alone would wait for minutes
        ClientSession() as session,
    ):
        group_id = await create_group(client1)
        vanishing_clients = [await session.ws_connect(URL) for _ in range(5)]
        async with create_socket_client(PORT) as client2:
            vanishing_clients += [await session.ws_connect(URL) for _ in range(5)]
            for client in vanishing_clients:
                await client.send_json(join(group_id))
            await join_group(client2, group_id)

            await client1.send_json(message(group_id))
            for client in vanishing_clients:
                cut_off(client)
            await client1.send_close()
            await client1.wait_until(SocketState.CLOSED)
            await client2.send_json(message(group_id))

    assert client1.messages == [group_message(group_id)]
    assert client2.messages == [group_message(group_id)] * 2


async def test_servers_share_nothing(aiohttp_server: AiohttpServer) -> None:
    other_server = await start_server(aiohttp_server, 0)
    async with (
        create_socket_client(PORT) as client1,
        create_socket_client(other_server.port or 0) as client2,
    ):
        group_id = await create_group(client1)
        await send(client2, join(group_id))
        await send(client2, {"type": "ECHO_TO_ALL", "value": "HO"})
        await send(client1, message(group_id))

    assert client1.messages == [group_message(group_id)]
    assert client2.messages == [unavailable(group_id), echo("HO")]
