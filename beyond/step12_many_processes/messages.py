"""What the tests say to the server, and what they expect to hear."""

import asyncio
import json
from functools import partial
from socket import AF_INET, SHUT_RDWR, SOCK_STREAM, fromfd

from aiohttp import ClientWebSocketResponse

from . import utils
from .server import PATH
from .utils import TestWebSocket, compute_port

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}{PATH}"
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
# The system buffers some 4 MB for a client that does not read; these are 10 MB.
LONG_TEXTS = [f"{number} {'x' * 100_000}" for number in range(100)]
LONG = 2**20  # bytes; larger than each of them


def echo(text: str = "HI") -> dict[str, object]:
    return {"type": "ECHO", "value": text}


def to_all(text: str = "HI") -> dict[str, object]:
    return {"type": "ECHO_TO_ALL", "value": text}


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


def group_left(group_id: str) -> dict[str, object]:
    return {"type": "GROUP_LEFT", "value": group_id}


def unavailable(group_id: str) -> dict[str, object]:
    return {"type": "GROUP_UNAVAILABLE", "value": group_id}


create_socket_client = partial(utils.create_socket_client, decode=json.loads)


async def send(client: TestWebSocket, request: object) -> None:
    """Send a request, and wait until the server has handled it."""
    await client.send_json(request)
    await client.settle()


async def create_group(client: TestWebSocket, name: str = "A") -> str:
    """Create a group, and return the id that the server has made."""
    await send(client, create(name))
    reply = client.messages.pop()
    group_id = reply["value"]["groupId"]
    value = {"groupId": group_id, "groupName": name}
    assert reply == {"type": "GROUP_CREATED", "value": value}
    return str(group_id)


async def join_group(client: TestWebSocket, group_id: str, name: str = "A") -> None:
    """Join a group, and check the confirmation."""
    await send(client, join(group_id))
    value = {"groupId": group_id, "groupName": name}
    assert client.messages.pop() == {"type": "GROUP_JOINED", "value": value}


def cut_off(client: ClientWebSocketResponse) -> None:
    """End the connection without a close frame, as a client that crashes does."""
    fileno = client.get_extra_info("socket").fileno()
    with fromfd(fileno, AF_INET, SOCK_STREAM) as connection:
        connection.shutdown(SHUT_RDWR)


def transport_of(client: ClientWebSocketResponse) -> asyncio.Transport | None:
    """Return a client's transport, to pause it; aiohttp has no public name for it."""
    return client._conn and client._conn.transport


def stop_reading(client: ClientWebSocketResponse) -> None:
    """Stop reading, like a program that hangs.

    The client does not answer pings either, like a computer that is suspended.
    """
    transport = transport_of(client)
    assert transport is not None
    transport.pause_reading()


def resume_reading(client: ClientWebSocketResponse) -> None:
    """Read again, also what has come in the meantime, if still connected."""
    if transport := transport_of(client):
        transport.resume_reading()
