"""The WebSocket server under test."""

import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web


def parse(frame: str | bytes) -> object:
    """Return the value of the JSON text in `frame`, or None when it holds none.

    A number beyond Python's limits, such as 1e999, counts as no JSON.
    """
    try:
        text = frame if isinstance(frame, str) else frame.decode()
        value = json.loads(text)
        # A ValueError for what loads() lets through: NaN, a lone surrogate.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


async def send(
    clients: Iterable[web.WebSocketResponse], kind: str, value: object
) -> None:
    """Send a message to each of `clients`; one that has gone stops nobody else's."""
    text = json.dumps({"type": kind, "value": value})
    for client in list(clients):  # they come and go while the loop awaits
        with suppress(ConnectionError):
            await client.send_str(text)


@dataclass
class Group:
    """A group, which exists as long as it has members; names may repeat."""

    name: str
    members: set[web.WebSocketResponse] = field(default_factory=set)


def create_websocket_server(app: web.Application) -> None:
    """Make `app` accept WebSocket connections at `/`.

    The app is the caller's: the real one in production, a bare one in tests.
    The article's `createWebSocketServer`.
    """
    clients: dict[web.WebSocketResponse, set[str]] = {}  # and the ids of their groups
    groups: dict[str, Group] = {}  # by their ids

    async def join_group(
        socket: web.WebSocketResponse, group_id: str, reply: str
    ) -> None:
        group = groups[group_id]
        group.members.add(socket)
        clients[socket].add(group_id)
        await send([socket], reply, {"groupId": group_id, "groupName": group.name})

    def leave_group(socket: web.WebSocketResponse, group_id: str) -> None:
        clients[socket].remove(group_id)
        groups[group_id].members.remove(socket)
        if not groups[group_id].members:
            del groups[group_id]

    async def answer(socket: web.WebSocketResponse, message: object) -> None:
        match message:
            case {"type": "ECHO", "value": str(value)}:
                await send([socket], "ECHO", value)
            case {"type": "ECHO_TIMES_3", "value": str(value)}:
                for _ in range(3):
                    await send([socket], "ECHO", value)
            case {"type": "ECHO_TO_ALL", "value": str(value)}:
                await send(clients, "ECHO", value)
            case {"type": "CREATE_GROUP", "value": str(name)}:
                group_id = secrets.token_urlsafe()
                groups[group_id] = Group(name)
                await join_group(socket, group_id, "GROUP_CREATED")
            case {"type": "JOIN_GROUP", "value": str(group_id)} if group_id in groups:
                await join_group(socket, group_id, "GROUP_JOINED")
            case {"type": "LEAVE_GROUP", "value": str(group_id)} if (
                group_id in clients[socket]
            ):
                leave_group(socket, group_id)
                await send([socket], "GROUP_LEFT", group_id)
            case {
                "type": "MESSAGE_GROUP",
                "value": {"groupId": str(group_id), "groupMessage": str(text)},
            } if group_id in clients[socket]:
                message = {"groupId": group_id, "groupMessage": text}
                await send(groups[group_id].members, "GROUP_MESSAGE", message)
            case {"type": "JOIN_GROUP" | "LEAVE_GROUP", "value": str(group_id)} | {
                "type": "MESSAGE_GROUP",
                "value": {"groupId": str(group_id), "groupMessage": str()},
            }:
                await send([socket], "GROUP_UNAVAILABLE", group_id)
            case _:
                await send([socket], "INVALID_MESSAGE", None)

    async def handle_connection(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        clients[socket] = set()
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await answer(socket, parse(message.data))
        finally:
            for group_id in list(clients[socket]):
                leave_group(socket, group_id)
            del clients[socket]
        return socket

    app.router.add_get("/", handle_connection)


if __name__ == "__main__":
    app = web.Application()
    create_websocket_server(app)
    port = int(os.environ.get("PORT", "8080"))
    # A server that stops waits for its clients, by default for 2 x 60 seconds.
    web.run_app(app, host="127.0.0.1", port=port, shutdown_timeout=0.5)
