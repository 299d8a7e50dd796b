"""Integration tests of the WebSocket server."""

import asyncio
import gc
import json
from contextlib import suppress
from http import HTTPStatus
from socket import AF_INET, SHUT_RDWR, SOCK_STREAM, fromfd
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSCloseCode, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .utils import (
    TIMEOUT,
    TestWebSocket,
    bounded,
    compute_port,
    create_socket_client,
    start_server,
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


def create(name: str) -> dict[str, object]:
    return {"type": "CREATE_GROUP", "value": name}


def join(name: str) -> dict[str, object]:
    return {"type": "JOIN_GROUP", "value": name}


def message(name: object, text: object = "HI") -> dict[str, object]:
    value = {"groupName": name, "groupMessage": text}
    return {"type": "MESSAGE_GROUP", "value": value}


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
    "type unknown": '{"type": "UNKNOWN", "value": "HI"}',
    "type in small letters": '{"type": "echo", "value": "HI"}',
    "type with a space": '{"type": "ECHO ", "value": "HI"}',
    "no value": '{"type": "ECHO"}',
    "ECHO a number": '{"type": "ECHO", "value": 1}',
    "ECHO true": '{"type": "ECHO", "value": true}',
    "ECHO a list": '{"type": "ECHO", "value": ["HI"]}',
    "ECHO an object": '{"type": "ECHO", "value": {"value": "HI"}}',
    "ECHO null": '{"type": "ECHO", "value": null}',
    "ECHO_TIMES_3 no value": '{"type": "ECHO_TIMES_3"}',
    "ECHO_TIMES_3 a number": '{"type": "ECHO_TIMES_3", "value": 1}',
    "ECHO_TIMES_3 null": '{"type": "ECHO_TIMES_3", "value": null}',
    "ECHO_TO_ALL no value": '{"type": "ECHO_TO_ALL"}',
    "ECHO_TO_ALL a number": '{"type": "ECHO_TO_ALL", "value": 1}',
    "ECHO_TO_ALL null": '{"type": "ECHO_TO_ALL", "value": null}',
    "ECHO_TO_ALL an object": '{"type": "ECHO_TO_ALL", "value": {}}',
    "CREATE_GROUP a number": '{"type": "CREATE_GROUP", "value": 1}',
    "CREATE_GROUP no value": '{"type": "CREATE_GROUP"}',
    "JOIN_GROUP no value": '{"type": "JOIN_GROUP"}',
    "JOIN_GROUP null": '{"type": "JOIN_GROUP", "value": null}',
    "JOIN_GROUP a list": '{"type": "JOIN_GROUP", "value": []}',
    "MESSAGE_GROUP no value": '{"type": "MESSAGE_GROUP"}',
    "MESSAGE_GROUP null": '{"type": "MESSAGE_GROUP", "value": null}',
    "MESSAGE_GROUP a list": '{"type": "MESSAGE_GROUP", "value": []}',
    "MESSAGE_GROUP a string": '{"type": "MESSAGE_GROUP", "value": "X"}',
    "no group message": '{"type": "MESSAGE_GROUP", "value": {"groupName": "X"}}',
    "no group name": '{"type": "MESSAGE_GROUP", "value": {"groupMessage": "HI"}}',
    "ECHO a group message": json.dumps({**message("X"), "type": "ECHO"}),
    "group message a number": json.dumps(message("X", 1)),
    "group message null": json.dumps(message("X", None)),
    "group name a number": json.dumps(message(1)),
    "group name a list": json.dumps(message(["X"])),
}
NO = "GROUP_UNAVAILABLE"
INVALID = "INVALID_MESSAGE"
DIALOGUES = {
    "create again": ([create("A")] * 3 + [message("A")], ["A", NO, NO, "HI"]),
    "join again": ([create("A"), join("A"), message("A")], ["A", "A", "HI"]),
    "join unknown": ([join("A"), join("A"), create("A")], [NO, NO, "A"]),
    "leave by moving": ([create("A"), create("B"), join("A")], ["A", "B", "A"]),
    "message unknown": (
        [message("A"), create("A"), message("B"), message("A")],
        ["A", "HI"],
    ),
    "invalid": ([create("A"), message("A", 1), message("A")], ["A", INVALID, "HI"]),
    "similar names": (
        [
            create("Aé"),
            *map(join, ["aé", "Aé ", "A", "Ae\u0301"]),
            *map(message, ["aé", "Aé ", "Ae\u0301", ""]),
            *map(create, ["aé", "Aé ", "Ae\u0301"]),
        ],
        ["Aé", NO, NO, NO, NO, "aé", "Aé ", "Ae\u0301"],
    ),
    "all texts": (
        [f(text) for text in TEXTS[1:] for f in (create, join, message)],
        [reply for text in TEXTS[1:] for reply in (text, text, "HI")],
    ),
}


async def send(client: TestWebSocket, request: object) -> None:
    """Send a request, and wait until the server has handled it."""
    await client.send_json(request)
    await client.settle()


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server; pytest-aiohttp stops it after the test."""
    app = web.Application()
    create_websocket_server(app)
    return await start_server(aiohttp_server, app, PORT)


async def test_given_echo_server_sends_the_value_back_once() -> None:
    test_message = {"type": "ECHO", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(URL) as client:
        # Send client message
        await client.send_json(test_message)
        await client.wait_for_message(test_message["value"])

    # Perform assertions on the response
    assert client.messages == [test_message["value"]]


async def test_given_echo_times_3_server_sends_the_value_back_three_times() -> None:
    test_message = {"type": "ECHO_TIMES_3", "value": "This is a test message"}

    # Create test client
    async with create_socket_client(URL) as client:
        # Send client message
        await client.send_json(test_message)
        await client.wait_for_message_count(3)

    # Perform assertions on the response
    assert client.messages == [test_message["value"]] * 3


async def test_replies_go_to_their_client_in_order() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
    ):
        for text in TEXTS:
            await client3.send_json({"type": "ECHO", "value": text})
            await client2.send_json({"type": "ECHO_TIMES_3", "value": text})
            await client2.send_json({"type": "ECHO", "value": "once"})
        await client1.send_json({"type": "ECHO_TIMES_3", "value": "only this"})
        await client1.send_json({"type": "ECHO", "value": "and this"})

    assert client1.messages == ["only this", "only this", "only this", "and this"]
    assert client2.messages == [m for text in TEXTS for m in (text, text, text, "once")]
    assert client3.messages == TEXTS


async def test_binary_frame_with_json() -> None:
    request = ' {"value":"Übung" , "more": [1.5], "type": "ECHO"}\n'

    async with create_socket_client(URL) as client:
        await client.send_bytes(request.encode("utf-8"))
        await client.send_bytes(request.encode("utf-16"))
        await client.send_bytes(request.encode("latin-1"))
        await client.send_bytes(b"")
        await client.send_str(request)
        await client.send_bytes(request.encode("utf-8"))
        await client.send_bytes(b'{"type": "ECHO_TIMES_3", "value": "HI"}')
        await client.send_bytes(b'{"type": "ECHO_TO_ALL", "value": "HI"}')
        for request_ in create("A"), message("A"), join("A"):
            await client.send_bytes(json.dumps(request_).encode())

    replies = ["Übung", *["INVALID_MESSAGE"] * 3, "Übung", "Übung"]
    assert client.messages == [*replies, *["HI"] * 4, "A", "HI", "A"]


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

    assert client.messages == ["INVALID_MESSAGE", "still here"] * 3
    assert other.messages == ["me too"]


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
        await client1.wait_for_message(test_message["value"])
        await client2.wait_for_message(test_message["value"])
        await client3.wait_for_message(test_message["value"])

    # Perform assertions on the responses
    assert client1.messages == [test_message["value"]]
    assert client2.messages == [test_message["value"]]
    assert client3.messages == [test_message["value"]]


async def test_broadcast_to_whoever_is_connected() -> None:
    async with create_socket_client(URL) as client1:
        for _ in range(2):
            async with (
                create_socket_client(URL) as client2,
                create_socket_client(URL) as client3,
            ):
                await client2.send_json({"type": "ECHO_TIMES_3", "value": "for 2"})
                for text in TEXTS:
                    await client2.send_json({"type": "ECHO_TO_ALL", "value": text})
                await client2.send_json({"type": "ECHO", "value": "for 2"})
                await client2.settle()
                await client3.send_json({"type": "ECHO_TO_ALL", "value": "from 3"})
            assert client2.messages == [*["for 2"] * 3, *TEXTS, "for 2", "from 3"]
            assert client3.messages == [*TEXTS, "from 3"]
        await client1.send_str("This is an invalid message")
        await client1.send_json({"type": "ECHO_TO_ALL", "value": "for who is left"})

    news = [*TEXTS, "from 3"]
    assert client1.messages == [*news, *news, "INVALID_MESSAGE", "for who is left"]


def cut_off(client: ClientWebSocketResponse) -> None:
    """End the connection without a close frame, as a client that crashes does."""
    fileno = client.get_extra_info("socket").fileno()
    with fromfd(fileno, AF_INET, SOCK_STREAM) as connection:
        connection.shutdown(SHUT_RDWR)


async def test_broadcast_skips_disconnected_clients() -> None:
    """Ten clients vanish during a broadcast; the two that stay miss nothing."""
    test_message = {"type": "ECHO_TO_ALL", "value": "This is a test message"}

    async with (
        create_socket_client(URL) as client1,
        asyncio.timeout(2 * TIMEOUT),  # ws_connect() itself would wait for minutes
        ClientSession() as session,
    ):
        # A set has no order: with ten, some come before client2 and some after it.
        vanishing_clients = [await session.ws_connect(URL) for _ in range(5)]
        async with create_socket_client(URL) as client2:
            vanishing_clients += [await session.ws_connect(URL) for _ in range(5)]

            # The server sees all of this at once. One vanishes while it is answered.
            await client1.send_json(test_message)
            await vanishing_clients[0].send_json({"type": "ECHO_TIMES_3", "value": ""})
            for client in vanishing_clients:
                cut_off(client)
            await client1.settle()
            await client2.send_json(test_message)

    assert client1.messages == [test_message["value"]] * 2
    assert client2.messages == [test_message["value"]] * 2


@pytest.mark.parametrize(
    "request_",
    [{"type": "ECHO_TO_ALL", "value": "HI"}, message("A")],
    ids=["all", "group"],
)
async def test_client_comes_while_a_broadcast_waits(
    monkeypatch: pytest.MonkeyPatch, request_: dict[str, object]
) -> None:
    is_waiting, may_go_on = asyncio.Event(), asyncio.Event()
    send_str = web.WebSocketResponse.send_str

    async def slow_send_str(*args: Any, **options: Any) -> None:
        is_waiting.set()
        await may_go_on.wait()
        await send_str(*args, **options)

    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        await send(client1, create("A"))
        await send(client2, join("A"))

        # From now on each send has to wait, as if the client's buffers were full.
        monkeypatch.setattr(web.WebSocketResponse, "send_str", slow_send_str)
        await client1.send_json(request_)
        await bounded(is_waiting.wait(), "the server to send")
        async with create_socket_client(URL) as client3:
            is_waiting.clear()
            await client3.send_json(join("A"))
            with suppress(TimeoutError):  # it may have to wait for its turn
                await bounded(is_waiting.wait(), "the server to answer", timeout=0.1)
            may_go_on.set()

    assert client1.messages[1:] == client2.messages[1:] == ["HI"]


def count_connections() -> int:
    """Return how many connections the servers in this process still hold."""
    gc.collect()
    kinds = (web.BaseRequest, web.WebSocketResponse)
    return sum(issubclass(type(it), kinds) for it in gc.get_objects())


async def test_server_forgets_clients_that_have_gone() -> None:
    connections = count_connections()

    async with (
        create_socket_client(URL) as client1,
        asyncio.timeout(2 * TIMEOUT),
        ClientSession() as session,
    ):
        async with session.get(f"http://127.0.0.1:{PORT}") as response:
            assert response.status == HTTPStatus.BAD_REQUEST  # it is not a handshake
        client2, client3, client4 = [await session.ws_connect(URL) for _ in range(3)]
        await send(client1, create("A"))
        for client in client2, client3, client4:
            await client.send_json(join("A"))
            await client.receive()
        assert count_connections() > connections  # so it counts this server's
        await client2.close(code=WSCloseCode.GOING_AWAY)
        cut_off(client3)
        await client4.send_json({"type": "ECHO_TIMES_3", "value": "HI"})
        cut_off(client4)  # while the server answers it

    async def forget() -> None:
        while count_connections() > connections:
            await asyncio.sleep(0.001)

    await bounded(forget(), "the server to forget its clients")


async def test_servers_share_nothing(aiohttp_server: AiohttpServer) -> None:
    other_app = web.Application()
    create_websocket_server(other_app)
    other_server = await start_server(aiohttp_server, other_app, 0)
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(other_server.make_url("/")) as client2,
    ):
        await send(client1, create("A"))
        await send(client2, join("A"))
        await send(client2, create("A"))
        await send(client1, message("A"))
        await send(client2, {"type": "ECHO_TO_ALL", "value": "HO"})

    assert client1.messages == ["A", "HI"]
    assert client2.messages == ["GROUP_UNAVAILABLE", "A", "HO"]


@pytest.mark.parametrize(("requests", "replies"), DIALOGUES.values(), ids=DIALOGUES)
async def test_lone_client(requests: list[object], replies: list[str]) -> None:
    async with create_socket_client(URL) as other:
        async with create_socket_client(URL) as client:
            for request in requests:
                await send(client, request)
        await other.send_json({"type": "ECHO", "value": "me too"})

    assert client.messages == replies
    assert other.messages == ["me too"]


async def test_given_message_group_server_sends_it_to_members_once_only() -> None:
    # Create test clients
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
    ):
        await send(client1, create("A"))
        await send(client2, join("A"))

        # Send client message
        await client2.send_json(message("A"))
        await client1.wait_for_message("HI")
        await client2.wait_for_message("HI")

    # Perform assertions on the responses
    assert client1.messages == ["A", "HI"]
    assert client2.messages == ["A", "HI"]
    assert client3.messages == []


async def test_members_of_two_groups() -> None:
    """Four clients are in one group, a fifth in another; each hears its own group."""
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
        create_socket_client(URL) as client4,
        create_socket_client(URL) as client5,
    ):
        await send(client1, create("A"))
        await send(client5, create("B"))
        for client in client2, client3, client4:
            await send(client, join("A"))

        for text in TEXTS:
            for client in client1, client2, client3, client4:
                await send(client, message("A", text))
            await send(client5, message("B", text))

    assert client1.messages == ["A", *(text for text in TEXTS for _ in range(4))]
    assert client1.messages == client2.messages == client3.messages == client4.messages
    assert client5.messages == ["B", *TEXTS]


async def test_outsiders_are_refused_and_change_no_group() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
    ):
        await send(client1, create("A"))
        await send(client2, create("B"))

        for client in [client2, client3] * 2:
            await send(client, message("A", "from outside"))
            await client1.settle()
            assert client1.messages == ["A"]
            await send(client, create("A"))
            await send(client, join("C"))
        await send(client1, message("A", "to A"))
        await send(client2, message("B", "to B"))

    assert client1.messages == ["A", "to A"]
    assert client2.messages == ["B", *["GROUP_UNAVAILABLE"] * 4, "to B"]
    assert client3.messages == ["GROUP_UNAVAILABLE"] * 4


@pytest.mark.parametrize("move", [create("C"), join("B")], ids=["create", "join"])
async def test_move_to_another_group(move: dict[str, object]) -> None:
    """Clients 1, 2 and 3 are in a group; client 1 moves to another, and comes back."""
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
        create_socket_client(URL) as client4,
    ):
        await send(client4, create("B"))
        await send(client1, create("A"))
        await send(client2, join("A"))
        await send(client3, join("A"))

        await send(client1, move)
        await send(client2, message("A", "without 1"))
        await send(client1, message("A", "from outside"))
        await send(client1, join("A"))
        await send(client1, message("A", "back"))
        await send(client4, message("B", "to B"))

    assert client1.messages == ["A", move["value"], "A", "back"]
    assert client2.messages == client3.messages == ["A", "without 1", "back"]
    assert client4.messages == ["B", "to B"]


async def test_group_outlives_its_members() -> None:
    async with create_socket_client(URL) as client1:
        await send(client1, create("A"))
    async with asyncio.timeout(2 * TIMEOUT), ClientSession() as session:
        vanishing_client = await session.ws_connect(URL)
        await vanishing_client.send_json(create("B"))
        await vanishing_client.receive()
        cut_off(vanishing_client)
    async with create_socket_client(URL) as client2:
        await send(client2, create("A"))
        for _ in range(2):
            async with create_socket_client(URL) as client3:
                await send(client2, join("A"))
                await send(client3, join("A"))
                await send(client3, message("A", "two of us"))
            async with create_socket_client(URL):
                pass  # another client connects and leaves
            await send(client2, message("A", "alone"))
        await send(client2, join("B"))

    assert client2.messages == [
        "GROUP_UNAVAILABLE",
        *["A", "two of us", "alone"] * 2,
        "B",
    ]
    assert client3.messages == ["A", "two of us"]


async def test_requests_of_a_member_change_nothing_for_the_others() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
    ):
        await send(client1, create("A"))
        await send(client2, join("A"))
        await send(client3, join("A"))

        await send(client2, "nonsense")
        await send(client2, create("A"))
        await send(client2, join("B"))
        await send(client2, join("A"))
        await send(client2, {"type": "ECHO_TIMES_3", "value": "HO"})
        await send(client2, message("A"))

    assert client1.messages[1:] == ["HI"]
    assert client2.messages[1:] == [INVALID, NO, NO, "A", "HO", "HO", "HO", "HI"]
    assert client3.messages[1:] == ["HI"]


async def test_requests_at_once() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        await client1.send_json(create("A"))
        await client2.send_json(create("A"))
        await client1.send_json(join("A"))
        await client2.send_json(join("A"))
        await client1.settle()
        await client2.settle()

        await client1.send_json(message("A", "from 1"))
        await client2.send_json(message("A", "from 2"))
        await client1.send_json({"type": "ECHO_TO_ALL", "value": "1 to all"})
        await client2.send_json({"type": "ECHO_TO_ALL", "value": "2 to all"})

    assert sorted([client1.messages[0], client2.messages[0]]) == [
        "A",
        "GROUP_UNAVAILABLE",
    ]
    assert sorted(client1.messages[2:]) == ["1 to all", "2 to all", "from 1", "from 2"]
    assert sorted(client2.messages[2:]) == sorted(client1.messages[2:])


async def test_broadcast_to_members_and_others() -> None:
    echo = {"type": "ECHO", "value": "to me"}
    broadcast = {"type": "ECHO_TO_ALL", "value": "to all"}

    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
    ):
        await send(client1, create("A"))
        await send(client2, join("A"))

        for _ in range(2):
            await send(client1, echo)
            await send(client1, broadcast)
            await send(client2, broadcast)
            await send(client3, echo)
            await send(client3, broadcast)
        await send(client1, message("A"))

    assert client1.messages == ["A", *["to me", "to all", "to all", "to all"] * 2, "HI"]
    assert client2.messages == ["A", *["to all", "to all", "to all"] * 2, "HI"]
    assert client3.messages == ["to all", "to all", "to me", "to all"] * 2


async def test_message_skips_disconnected_members() -> None:
    """Ten members vanish during a message; the two that stay miss nothing."""
    async with (
        create_socket_client(URL) as client1,
        asyncio.timeout(2 * TIMEOUT),  # ws_connect() itself would wait for minutes
        ClientSession() as session,
    ):
        await send(client1, create("A"))
        vanishing_clients = [await session.ws_connect(URL) for _ in range(5)]
        async with create_socket_client(URL) as client2:
            vanishing_clients += [await session.ws_connect(URL) for _ in range(5)]
            await send(client2, join("A"))
            for client in vanishing_clients:
                await client.send_json(join("A"))
                await client.receive()

            await client1.send_json(message("A"))
            await vanishing_clients[0].send_json({"type": "ECHO_TIMES_3", "value": ""})
            for client in vanishing_clients:
                cut_off(client)
            await client1.settle()
            await client2.send_json(message("A"))

    assert client1.messages[1:] == ["HI"] * 2
    assert client2.messages[1:] == ["HI"] * 2
