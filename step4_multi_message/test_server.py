"""Integration tests of the WebSocket server."""

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .utils import (
    SocketState,
    compute_port,
    create_socket_client,
    start_server,
    wait_for_socket_state,
)

PORT = compute_port()
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
TYPES = ["ECHO", "ECHO_TIMES_3"]
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
}


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
        for frame in frames:
            await client.send_str(frame)
            await client.send_bytes(frame.encode())
            await client.send_json({"type": "ECHO", "value": frame})
        await other.send_json({"type": "ECHO", "value": "me too"})

    replies = [m for frame in frames for m in ("INVALID_MESSAGE",) * 2 + (frame,)]
    assert messages == replies
    assert other_messages == ["me too"]


async def test_binary_messages_in_other_encodings() -> None:
    async with create_socket_client(PORT) as (client, messages):
        for encoding in "utf-16", "utf-32", "latin-1":
            await client.send_bytes(ECHO.replace("HI", "Übung").encode(encoding))

    assert messages == ["INVALID_MESSAGE"] * 3
