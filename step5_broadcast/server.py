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

    async def answer(socket: web.WebSocketResponse, message: object) -> None:
        match message:
            case {"type": "ECHO", "value": str(value)}:
                await socket.send_str(value)
            case {"type": "ECHO_TIMES_3", "value": str(value)}:
                for _ in range(3):
                    await socket.send_str(value)
            case {"type": "ECHO_TO_ALL", "value": str(value)}:
                await broadcast(clients, value)
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
        return socket

    app.router.add_get("/", handle_connection)


if __name__ == "__main__":
    app = web.Application()
    create_websocket_server(app)
    port = int(os.environ.get("PORT", "8080"))
    # A server that stops waits for its clients: by default, up to 2 x 60 seconds.
    web.run_app(app, host="127.0.0.1", port=port, shutdown_timeout=0.5)
