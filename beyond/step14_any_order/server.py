"""The WebSocket server under test."""

import asyncio
import json
import os
from collections.abc import Iterable
from contextlib import suppress

from aiohttp import WSMsgType, web

from .store import Store


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


async def send(clients: Iterable[web.WebSocketResponse], text: str) -> None:
    """Send `text` to all `clients`, except those that have gone."""
    for client in clients:
        with suppress(ConnectionError):
            await client.send_str(text)


class Server:
    """The clients, and the answers to their messages."""

    def __init__(self, store: Store[web.WebSocketResponse]) -> None:
        """Start without clients."""
        self.store = store
        self.clients: dict[web.WebSocketResponse, str | None] = {}  # and their groups
        self.lock = asyncio.Lock()

    async def answer(self, socket: web.WebSocketResponse, message: object) -> None:
        """Answer a message, and pass it on to everyone it is for."""
        match message:
            case {"type": "ECHO", "value": str(value)}:
                await send([socket], value)
            case {"type": "ECHO_TIMES_3", "value": str(value)}:
                for _ in range(3):
                    await send([socket], value)
            case {"type": "ECHO_TO_ALL", "value": str(value)}:
                await send(list(self.clients), value)
            case {"type": "CREATE_GROUP", "value": str(name)}:
                async with self.lock:
                    await self.create_group(socket, name)
            case {"type": "JOIN_GROUP", "value": str(name)}:
                async with self.lock:
                    await self.join_group(socket, name)
            case {
                "type": "MESSAGE_GROUP",
                "value": {"groupName": str(name), "groupMessage": str(text)},
            }:
                async with self.lock:
                    await self.message_group(socket, name, text)
            case _:
                await send([socket], "INVALID_MESSAGE")

    async def create_group(self, socket: web.WebSocketResponse, name: str) -> None:
        """Create a group with its first member, unless it exists."""
        if await self.store.has_group(name):
            await send([socket], "GROUP_UNAVAILABLE")
        else:
            await self.store.add_group(name)
            await self.move(socket, name)

    async def join_group(self, socket: web.WebSocketResponse, name: str) -> None:
        """Move a client to a group, if it exists."""
        if await self.store.has_group(name):
            await self.move(socket, name)
        else:
            await send([socket], "GROUP_UNAVAILABLE")

    async def move(self, socket: web.WebSocketResponse, name: str) -> None:
        """Move a client from the group that it is in to another, and confirm it."""
        await self.leave(socket)
        await self.store.add_member(socket, name)
        self.clients[socket] = name
        await send([socket], name)

    async def leave(self, socket: web.WebSocketResponse) -> None:
        """Remove a client from the group that it is in, if any."""
        if (name := self.clients[socket]) is not None:
            await self.store.remove_member(socket, name)
            self.clients[socket] = None

    async def message_group(
        self, socket: web.WebSocketResponse, name: str, text: str
    ) -> None:
        """Send a member's message to all members of its group."""
        members = await self.store.members(name)
        if socket in members:
            await send(members, text)

    async def handle_connection(self, request: web.Request) -> web.WebSocketResponse:
        """Accept a client, and answer its messages until it disconnects."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.clients[socket] = None
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self.answer(socket, parse(message.data))
        except ConnectionError:
            pass  # the client has gone; nobody is left to answer
        finally:
            await self.leave(socket)
            del self.clients[socket]
        return socket


def create_websocket_server(
    app: web.Application, store: Store[web.WebSocketResponse] | None = None
) -> None:
    """Make `app` accept WebSocket connections at `/`.

    The app is the caller's: the real one in production, a bare one in tests.
    The article's `createWebSocketServer`.
    """
    server = Server(store or Store())
    app.router.add_get("/", server.handle_connection)


if __name__ == "__main__":
    app = web.Application()
    create_websocket_server(app)
    port = int(os.environ.get("PORT", "8080"))
    # A server that stops waits for its clients: by default, up to 2 x 60 seconds.
    web.run_app(app, host="127.0.0.1", port=port, shutdown_timeout=0.5)
