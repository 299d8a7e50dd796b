"""Integration tests of the WebSocket server."""

import asyncio
import gc
import json
from contextlib import AsyncExitStack
from http import HTTPStatus
from itertools import pairwise
from socket import AF_INET, SHUT_RDWR, SOCK_STREAM, fromfd
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .utils import (
    TIMEOUT,
    SocketState,
    bounded,
    compute_port,
    create_socket_client,
    settle,
    start_server,
    wait_for_messages,
    wait_for_socket_state,
)

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"
TEXTS = [
    "first",
    "first",
    "",
    " <b>Cafe\u0301</b>\r\n\0🎉 ",
    '{"type": "ECHO", "value": "HI"}',
    "INVALID_MESSAGE",
    "x" * 126,  # from 126 bytes on, the header of a frame is longer
    "y" * 65_536,  # and longer still from 65,536 bytes on
    "last",
]
TYPES = ["ECHO", "ECHO_TIMES_3", "ECHO_TO_ALL", "CREATE_GROUP", "JOIN_GROUP"]
ECHO = '{"type": "ECHO", "value": "HI"}'


def edit(old: str, *new: str) -> list[str]:
    """Return the message above with other words in place of `old`."""
    return [ECHO.replace(old, it) for it in new]


VALID_MESSAGES = [
    ECHO,
    '{"value": "HI", "type": "ECHO"}',
    ' \t\r\n{ "type"\n:"ECHO" ,\t"value" : "HI" }\r\n',
    *edit("ECHO", r"\u0045CHO") + edit("type", r"\u0074ype"),
    *edit("HI", r"\u00dc \ud83c\udf89 \"\\\/\b\f\n\r\t", "\ufeff", "// [{" * 30),
    *edit("}", ', "id": 7}', ', "Value": null, "types": {}, "": {"type": 1}}'),
    *edit("}", ', "more": [true, -0, 1E5, 0.5e-3, ' + "9" * 99 + "]}"),
    *edit("}", ', "more": ' + "[" * 99 + "]" * 99 + "}"),
]
NO_STRINGS = ["null", "true", "3", "[]", '["HI"]', "{}", '{"value": "HI"}']
MISSPELT = [str.lower, str.title, " {}".format, "{} ".format, "{}S".format]
INVALID_MESSAGES = {
    "not_json": [
        *["", " ", "This is a test message", "ECHO", "\ufeff" + ECHO],
        *edit('"', "'", ""),
        *edit('"type"', "type"),
        *edit("}", "", ",}", "} {}", "}}", "}\0", "} // HI"),
        *edit("HI", "H\nI", "H\0I", r"\x48I", "HI\\"),
        *edit("}", ', "more": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    ],
    "not_a_number": edit(
        "}",
        *map(', "more": [{}]}}'.format, ["NaN", "-Infinity", "01", "+1", ".5", "0x1"]),
    ),
    "lone_surrogate": edit("HI", r"\ud800", r"HI \udfff")
    + edit("}", r', "more": ["\ud800"]}', r', "\ud800": 1}'),
    "not_an_object": ["null", "true", "3", '"ECHO"', json.dumps(ECHO), f"[{ECHO}]"],
    "keys": [
        *["{}", '{"type": "ECHO"}', '{"value": "HI"}', f'{{"message": {ECHO}}}'],
        *edit('"type"', '"Type"', '"type "', '"types"'),
        *edit('"value"', '"VALUE"', '" value"', '""'),
    ],
    "type": [
        *edit('"ECHO"', '""', '"E"', '"ECHO_TIMES_"', *NO_STRINGS),
        *edit("ECHO", *[misspell(it) for it in TYPES for misspell in MISSPELT]),
    ],
    "value": [
        frame.replace("ECHO", it) for it in TYPES for frame in edit('"HI"', *NO_STRINGS)
    ],
    "group_message": [
        f'{{"type": "MESSAGE_GROUP", "value": {value}}}'
        for it in NO_STRINGS
        for value in (
            it,
            json.dumps('{"groupName": "HI", "groupMessage": "HI"}'),
            f'{{"groupName": {it}, "groupMessage": "HI"}}',
            f'{{"groupName": "HI", "groupMessage": {it}}}',
            f'{{"groupName": "lions", "groupMessage": {it}}}',  # it is no member
            f'{{"groupName": "HI", "GroupMessage": "HI", "more": {it}}}',
            f'{{"group": "HI", "groupMessage": "HI", "more": {it}}}',
        )
    ],
}


def create(name: str) -> dict[str, object]:
    return {"type": "CREATE_GROUP", "value": name}


def join(name: str) -> dict[str, object]:
    return {"type": "JOIN_GROUP", "value": name}


def message(name: str, text: object = "HI") -> dict[str, object]:
    value = {"groupName": name, "groupMessage": text}
    return {"type": "MESSAGE_GROUP", "value": value}


def to_all(text: str) -> dict[str, object]:
    return {"type": "ECHO_TO_ALL", "value": text}


SIMILAR = ["lions é", "Lions é ", "Lions", "Lions e\u0301", "LIONS É", "Lions é" * 9]
ODD = [*TEXTS[1:], "y" * 65_536 + "y", "__class__", *map("group {}".format, range(40))]
UNAVAILABLE = "GROUP_UNAVAILABLE"
# What clients 1, 2 and 3 say, one after the other, and what each of them hears.
CONVERSATIONS: dict[str, tuple[list[Any], list[Any]]] = {
    "taken_and_unknown_names": (
        [
            *[(2, join("lions")), (1, create("lions")), (3, create("tigers"))],
            *[(1, create("lions")), (2, create("lions")), (1, create("tigers"))],
            *[(3, join("bears")), (1, message("lions")), (3, message("tigers"))],
            *[(1, join("lions")), (3, to_all("to all")), (2, join("lions"))],
            *[(2, join("lions")), (1, message("lions"))],
        ],
        [
            ["lions", UNAVAILABLE, UNAVAILABLE, "HI", "lions", "to all", "HI"],
            [UNAVAILABLE, UNAVAILABLE, "to all", "lions", "lions", "HI"],
            ["tigers", UNAVAILABLE, "HI", "to all"],
        ],
    ),
    "members_and_others": (
        [
            *[(1, message("lions")), (1, create("lions")), (2, create("tigers"))],
            *[(client, message("lions", "outside")) for client in (2, 3, 2, 3)],
            *[(1, message("tigers", "outside")), (3, message("", "outside"))],
            *[(3, to_all("from 3")), (2, to_all("from 2")), (1, message("lions"))],
            *[(2, message("tigers", "HO")), (3, join("lions")), (3, to_all("again"))],
        ],
        [
            ["lions", "from 3", "from 2", "HI", "again"],
            ["tigers", "from 3", "from 2", "HO", "again"],
            ["from 3", "from 2", "lions", "again"],
        ],
    ),
    "move_and_come_back": (
        [
            *[(1, create("lions")), (2, join("lions")), (3, join("lions"))],
            *[(1, create("tigers")), (2, message("lions", "without 1"))],
            *[(1, message("lions", "outside")), (1, message("tigers", "alone"))],
            *[(3, join("tigers")), (1, message("tigers", "with 3"))],
            *[(1, join("lions")), (1, message("lions", "with 2"))],
            *[(3, message("tigers", "alone")), (3, message("lions", "outside"))],
            *[(3, join("lions")), (3, message("lions", "all three"))],
        ],
        [
            ["lions", "tigers", "alone", "with 3", "lions", "with 2", "all three"],
            ["lions", "without 1", "with 2", "all three"],
            ["lions", "without 1", "tigers", "with 3", "alone", "lions", "all three"],
        ],
    ),
    "similar_names": (
        [
            (1, create("Lions é")),
            *[(1, join(name)) for name in SIMILAR],
            *[(1, message(name)) for name in SIMILAR],
            *[(2, create(name)) for name in SIMILAR],
            (1, message("Lions é")),
        ],
        [["Lions é", *[UNAVAILABLE] * len(SIMILAR), "HI"], SIMILAR, []],
    ),
    "odd_names": (
        [(1, request(text)) for text in ODD for request in (create, join, message)],
        [[reply for text in ODD for reply in (text, text, "HI")], [], []],
    ),
}


async def send(client: ClientWebSocketResponse, request: object) -> None:
    """Send a request, and wait until the server has handled it."""
    await client.send_json(request)
    await settle(client)


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server; pytest-aiohttp stops it after the test."""
    app = web.Application()
    create_websocket_server(app)
    return await start_server(aiohttp_server, app, PORT)


async def test_given_echo_server_sends_the_value_back_once() -> None:
    test_message = {"type": "ECHO", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(PORT, close_after=1) as (client, messages):
        # Send client message
        await client.send_json(test_message)
        await wait_for_socket_state(client, SocketState.CLOSED)

    # Perform assertions on the response
    assert messages == [test_message["value"]]


async def test_given_echo_times_3_server_sends_the_value_back_three_times() -> None:
    test_message = {"type": "ECHO_TIMES_3", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(PORT, close_after=3) as (client, messages):
        # Send client message
        await client.send_json(test_message)
        await wait_for_socket_state(client, SocketState.CLOSED)

    # Perform assertions on the response
    assert messages == [test_message["value"]] * 3


async def test_replies_go_to_their_client_in_order() -> None:
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(PORT) as (client2, messages2),
        create_socket_client(PORT) as (client3, messages3),
    ):
        for text in TEXTS:
            await client3.send_json({"type": "ECHO", "value": text})
            await client2.send_json({"type": "ECHO_TIMES_3", "value": text})
            await client2.send_json({"type": "ECHO", "value": "once"})
        await client1.send_json({"type": "ECHO_TIMES_3", "value": "only this"})
        await client1.send_json({"type": "ECHO", "value": "z" * 3_000_000})

    assert messages1 == ["only this", "only this", "only this", "z" * 3_000_000]
    assert messages2 == [m for text in TEXTS for m in (text, text, text, "once")]
    assert messages3 == TEXTS


async def test_valid_messages() -> None:
    async with create_socket_client(PORT) as (client, messages):
        for message in VALID_MESSAGES:
            await client.send_str(message)
            await client.send_bytes(message.encode())

    values = [json.loads(message)["value"] for message in VALID_MESSAGES]
    assert messages == [value for value in values for _ in range(2)]


@pytest.mark.parametrize("frames", INVALID_MESSAGES.values(), ids=INVALID_MESSAGES)
async def test_invalid_message(frames: list[str]) -> None:
    async with (
        create_socket_client(PORT) as (client, messages),
        create_socket_client(PORT) as (other, other_messages),
    ):
        await send(other, create("HI"))
        await send(client, join("HI"))
        for frame in frames:
            await client.send_str(frame)
            await client.send_bytes(frame.encode())
            await client.send_json({"type": "ECHO", "value": frame})
        await other.send_json({"type": "ECHO", "value": "me too"})
        await settle(client)
        await other.send_json(message("HI", "to members"))

    replies = [m for frame in frames for m in ("INVALID_MESSAGE",) * 2 + (frame,)]
    assert messages[1:] == [*replies, "to members"]
    assert other_messages[1:] == ["me too", "to members"]


async def test_binary_messages_in_other_encodings() -> None:
    async with create_socket_client(PORT) as (client, messages):
        for encoding in "utf-16", "utf-32", "latin-1":
            await client.send_bytes(ECHO.replace("HI", "Übung").encode(encoding))

    assert messages == ["INVALID_MESSAGE"] * 3


async def test_given_echo_to_all_server_sends_the_value_to_every_client_once() -> None:
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}

    # Create test clients
    async with (
        create_socket_client(PORT, close_after=1) as (client1, messages1),
        create_socket_client(PORT, close_after=1) as (client2, messages2),
        create_socket_client(PORT, close_after=1) as (client3, messages3),
    ):
        # Send client message
        await client1.send_json(test_message)
        await wait_for_socket_state(client1, SocketState.CLOSED)
        await wait_for_socket_state(client2, SocketState.CLOSED)
        await wait_for_socket_state(client3, SocketState.CLOSED)

    # Perform assertions on the responses
    assert messages1 == [test_message["value"]]
    assert messages2 == [test_message["value"]]
    assert messages3 == [test_message["value"]]


async def test_broadcast_to_whoever_is_connected() -> None:
    """Client 1 stays; twice, two more connect, speak, talk nonsense, and leave."""
    async with create_socket_client(PORT) as (client1, messages1):
        for _ in range(2):
            async with (
                create_socket_client(PORT) as (client2, messages2),
                create_socket_client(PORT) as (client3, messages3),
            ):
                for text in TEXTS:
                    await client2.send_json({"type": "ECHO_TO_ALL", "value": text})
                await client2.send_str("This is an invalid message")
                await settle(client2)
                await client3.send_bytes(b'{"type": "ECHO_TO_ALL", "value": "from 3"}')
            assert messages2 == [*TEXTS, "INVALID_MESSAGE", "from 3"]
            assert messages3 == [*TEXTS, "from 3"]
        await client1.send_json({"type": "ECHO_TO_ALL", "value": "z" * 3_000_000})

    assert messages1 == [*TEXTS, "from 3", *TEXTS, "from 3", "z" * 3_000_000]


async def test_broadcast_from_each_of_many_clients() -> None:
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(20):
            async with create_socket_client(PORT):  # comes before another, and leaves
                helper = create_socket_client(PORT)
                clients.append(await stack.enter_async_context(helper))
        for number, (client, _) in enumerate(clients):
            await client.send_json({"type": "ECHO_TO_ALL", "value": f"from {number}"})
            await settle(client)
        for number, (client, _) in enumerate(clients):
            request = create if number < 5 else join
            await send(client, request(f"group {number % 5}"))
        for number, (client, _) in enumerate(clients):
            await send(client, message(f"group {number % 5}", "z" * 10_000 * number))

    for at, (_, messages) in enumerate(clients):
        texts = ["z" * 10_000 * number for number in range(at % 5, 20, 5)]
        assert messages[:20] == [f"from {number}" for number in range(20)]
        assert messages[20:] == [f"group {at % 5}", *texts]


def cut_off(client: ClientWebSocketResponse) -> None:
    """End the connection without a close frame, as a client that crashes does."""
    fileno = client.get_extra_info("socket").fileno()
    with fromfd(fileno, AF_INET, SOCK_STREAM) as connection:
        connection.shutdown(SHUT_RDWR)


async def test_broadcast_skips_disconnected_clients() -> None:
    """Ten clients vanish during a broadcast; the two that stay miss nothing."""
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}

    async with (
        create_socket_client(PORT) as (client1, messages1),
        asyncio.timeout(2 * TIMEOUT),  # ws_connect() itself would wait for minutes
        ClientSession() as session,
    ):
        await send(client1, create("lions"))
        # A set has no order: with ten, some come before client2 and some after it.
        vanishing_clients = [await session.ws_connect(URL) for _ in range(5)]
        async with create_socket_client(PORT) as (client2, messages2):
            vanishing_clients += [await session.ws_connect(URL) for _ in range(5)]
            await send(client2, join("lions"))
            for client in vanishing_clients:
                await client.send_json(join("lions"))
                await client.receive()

            # The server sees all of this at once. One vanishes while it is answered.
            await client1.send_json(test_message)
            await client1.send_json(message("lions"))
            await vanishing_clients[0].send_json({"type": "ECHO_TIMES_3", "value": ""})
            for client in vanishing_clients:
                cut_off(client)
            await settle(client1)
            await client2.send_json(test_message)
            await client2.send_json(message("lions"))

    assert messages1[1:] == [test_message["value"], "HI"] * 2
    assert messages2[1:] == [test_message["value"], "HI"] * 2


@pytest.fixture
def slow_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every send of the server wait, as it does when a client reads slowly."""
    send_str = web.WebSocketResponse.send_str

    async def slow_send_str(*args: Any, **options: Any) -> None:
        await asyncio.sleep(0.001)
        await send_str(*args, **options)

    monkeypatch.setattr(web.WebSocketResponse, "send_str", slow_send_str)


@pytest.mark.usefixtures("slow_sends")
async def test_clients_come_and_go_while_broadcasts_wait() -> None:
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(PORT) as (_, messages2),
    ):
        for text in TEXTS:
            await client1.send_json({"type": "ECHO_TO_ALL", "value": text})
        for _ in range(3):
            async with create_socket_client(PORT):
                pass

    assert messages1 == messages2 == TEXTS


@pytest.mark.usefixtures("slow_sends")
async def test_members_come_and_go_while_messages_wait() -> None:
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(PORT) as (client2, messages2),
        create_socket_client(PORT) as (client3, messages3),
    ):
        await send(client3, create("tigers"))
        await send(client1, create("lions"))
        await send(client2, join("lions"))

        for text in TEXTS:
            await client1.send_json(message("lions", text))
        for _ in range(3):
            await send(client3, join("lions"))
            await send(client3, join("tigers"))

    assert messages1[1:] == messages2[1:] == TEXTS
    for reply, next_message in pairwise(messages3):  # outside, client 3 hears nothing
        assert next_message == "lions" or reply != "tigers"


def count_connections() -> int:
    """Return how many connections the servers in this process still hold."""
    gc.collect()
    kinds = (web.BaseRequest, web.WebSocketResponse)
    return sum(issubclass(type(it), kinds) for it in gc.get_objects())


async def test_server_forgets_clients_that_have_gone() -> None:
    """They leave with a close frame of any kind, or vanish; one was no WebSocket."""
    connections = count_connections()

    async with (
        create_socket_client(PORT) as (client1, messages1),
        asyncio.timeout(2 * TIMEOUT),
        ClientSession() as session,
    ):
        async with session.get(f"http://127.0.0.1:{PORT}") as response:
            assert response.status == HTTPStatus.BAD_REQUEST
        await send(client1, create("lions"))
        clients = [await session.ws_connect(URL) for _ in range(7)]
        for client in clients:
            await client.send_json(join("lions"))
            await client.receive()
        assert count_connections() > connections  # so it counts this server's
        for client, code in zip(clients, (1000, 1001, 3000, 4999), strict=False):
            await client.close(code=code, message=b"bye")
        await clients[4].send_frame(b"", WSMsgType.CLOSE)  # without a code
        cut_off(clients[5])
        await clients[6].send_json({"type": "ECHO_TIMES_3", "value": "HI"})
        cut_off(clients[6])  # while the server answers it
        await client1.send_json({"type": "ECHO_TO_ALL", "value": "for who is left"})

    assert messages1[1:] == ["for who is left"]
    async with bounded("the server to forget its clients"):
        while count_connections() > connections:
            await asyncio.sleep(0.001)


async def test_servers_share_nothing(aiohttp_server: AiohttpServer) -> None:
    other_app = web.Application()
    create_websocket_server(other_app)
    other_server = await start_server(aiohttp_server, other_app, 0)
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(other_server.port or 0) as (client2, messages2),
    ):
        await client1.send_json({"type": "ECHO_TO_ALL", "value": "HI"})
        await client2.send_json({"type": "ECHO_TO_ALL", "value": "HO"})
        await send(client1, create("lions"))
        await send(client2, join("lions"))
        await send(client2, create("lions"))
        await send(client1, message("lions"))

    assert messages1 == ["HI", "lions", "HI"]
    assert messages2 == ["HO", UNAVAILABLE, "lions"]


async def test_given_message_group_server_sends_it_to_members_once_only() -> None:
    # Create test clients
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(PORT, close_after=2) as (client2, messages2),
        create_socket_client(PORT) as (_, messages3),
    ):
        await client1.send_json(create("A"))
        await wait_for_messages(messages1, 1)
        await client2.send_json(join("A"))

        # Send client message
        await client2.send_json(message("A"))
        await wait_for_socket_state(client2, SocketState.CLOSED)

    # Perform assertions on the responses, without those that confirm a group
    assert messages1[1:] == ["HI"]
    assert messages2[1:] == ["HI"]
    assert messages3 == []


@pytest.mark.parametrize(("says", "hears"), CONVERSATIONS.values(), ids=CONVERSATIONS)
async def test_conversation(says: list[Any], hears: list[Any]) -> None:
    async with (
        create_socket_client(PORT) as (client1, messages1),
        create_socket_client(PORT) as (client2, messages2),
        create_socket_client(PORT) as (client3, messages3),
    ):
        for number, request in says:
            client = (client1, client2, client3)[number - 1]
            if number == 2:  # it speaks in binary frames
                await client.send_bytes(json.dumps(request).encode())
            else:
                await client.send_json(request)
            await settle(client)

    assert [messages1, messages2, messages3] == hears


async def test_group_outlives_its_members() -> None:
    """The creator came first and leaves first; a client comes who is no member."""
    async with asyncio.timeout(5 * TIMEOUT), ClientSession() as session:
        creator = await session.ws_connect(URL)
        await creator.send_json(create("lions"))
        await creator.receive()
        async with (
            create_socket_client(PORT) as (client1, messages1),
            create_socket_client(PORT) as (client2, messages2),
        ):
            await send(client1, join("lions"))
            await send(client2, join("lions"))
            await creator.close()
            async with create_socket_client(PORT) as (client3, messages3):
                await send(client3, create("tigers"))
                await send(client1, message("lions"))
                await send(client3, message("lions", "outside"))
    async with create_socket_client(PORT) as (client4, messages4):
        for request in create("lions"), join("lions"), message("lions"), join("tigers"):
            await send(client4, request)

    assert messages1 == messages2 == ["lions", "HI"]
    assert messages3 == ["tigers"]
    assert messages4 == [UNAVAILABLE, "lions", "HI", "tigers"]
