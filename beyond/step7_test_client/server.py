"""The WebSocket server under test."""

import json
import os
from collections.abc import Collection
from contextlib import suppress

from aiohttp import WSMsgType, web


def parse(frame: str | bytes) -> object:
    """Return the value of the JSON text in `frame`, or None if it is not JSON.

    Numbers beyond Python's limits, such as 1e999, do not count as JSON.
    """
    try:
        text = frame if isinstance(frame, str) else frame.decode()
        value = json.loads(text)
        # loads() accepts NaN and lone surrogates: this raises ValueError.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


async def broadcast(clients: Collection[web.WebSocketResponse], text: str) -> None:
    """Send `text` to all `clients`, except those that have gone."""
    for client in list(clients):  # the set can change while send_str() waits
        if client in clients:
            with suppress(ConnectionError):
                await client.send_str(text)


def create_websocket_server(app: web.Application) -> None:
    """Make `app` accept WebSocket connections at `/`.

    The app is the caller's: the real one in production, a bare one in tests.
    The article's `createWebSocketServer`.
    """
    clients: set[web.WebSocketResponse] = set()
    groups: dict[str, set[web.WebSocketResponse]] = {}

    def leave_group(socket: web.WebSocketResponse) -> None:
        for members in groups.values():
            members.discard(socket)

    async def join_group(socket: web.WebSocketResponse, name: str) -> None:
        leave_group(socket)
        groups[name].add(socket)
        await socket.send_str(name)

    async def answer(socket: web.WebSocketResponse, message: object) -> None:
        match message:
            case {"type": "ECHO", "value": str(value)}:
                await socket.send_str(value)
            case {"type": "ECHO_TIMES_3", "value": str(value)}:
                for _ in range(3):
                    await socket.send_str(value)
            case {"type": "ECHO_TO_ALL", "value": str(value)}:
                await broadcast(clients, value)
            case {"type": "CREATE_GROUP", "value": str(name)} if name not in groups:
                groups[name] = set()
                await join_group(socket, name)
            case {"type": "JOIN_GROUP", "value": str(name)} if name in groups:
                await join_group(socket, name)
            case {"type": "CREATE_GROUP" | "JOIN_GROUP", "value": str()}:
                await socket.send_str("GROUP_UNAVAILABLE")
            case {
                "type": "MESSAGE_GROUP",
                "value": {"groupName": str(name), "groupMessage": str(text)},
            }:
                if socket in groups.get(name, ()):
                    await broadcast(groups[name], text)
            case _:
                await socket.send_str("INVALID_MESSAGE")

    async def handle_connection(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        clients.add(socket)
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await answer(socket, parse(message.data))
        except ConnectionError:
            pass  # the client has gone; nobody is left to answer
        finally:
            clients.discard(socket)
            leave_group(socket)
        return socket

    app.router.add_get("/", handle_connection)


if __name__ == "__main__":
    app = web.Application()
    create_websocket_server(app)
    port = int(os.environ.get("PORT", "8080"))
    # A server that stops waits for its clients: by default, up to 2 x 60 seconds.
    web.run_app(app, host="127.0.0.1", port=port, shutdown_timeout=0.5)
