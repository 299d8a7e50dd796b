"""The WebSocket server under test."""

import os
from collections.abc import Iterable
from contextlib import suppress

from aiohttp import WSMsgType, web

from .groups import Groups
from .protocol import encode, parse

PATH = "/"  # of the WebSocket


async def send(
    clients: Iterable[web.WebSocketResponse], kind: str, value: object
) -> None:
    """Send a message to all `clients`, except those that have gone."""
    text = encode(kind, value)
    for client in list(clients):  # the set can change while send_str() waits
        with suppress(ConnectionError):
            await client.send_str(text)


class Server:
    """The clients, their groups, and the answers to their messages."""

    def __init__(self) -> None:
        """Start without clients or groups."""
        self.clients: set[web.WebSocketResponse] = set()
        self.groups = Groups[web.WebSocketResponse]()

    async def answer(self, socket: web.WebSocketResponse, message: object) -> None:
        """Answer a message, and pass it on to everyone it is for."""
        groups = self.groups
        match message:
            case {"type": "ECHO", "value": str(value)}:
                await send([socket], "ECHO", value)
            case {"type": "ECHO_TIMES_3", "value": str(value)}:
                for _ in range(3):
                    await send([socket], "ECHO", value)
            case {"type": "ECHO_TO_ALL", "value": str(value)}:
                await send(self.clients, "ECHO", value)
            case {"type": "CREATE_GROUP", "value": str(name)}:
                await self.confirm(socket, "GROUP_CREATED", groups.create(socket, name))
            case {"type": "JOIN_GROUP", "value": str(group_id)} if group_id in groups:
                groups.join(socket, group_id)
                await self.confirm(socket, "GROUP_JOINED", group_id)
            case {"type": "LEAVE_GROUP", "value": str(group_id)} if (
                socket in groups.members(group_id)
            ):
                groups.leave(socket, group_id)
                await send([socket], "GROUP_LEFT", group_id)
            case {
                "type": "MESSAGE_GROUP",
                "value": {"groupId": str(group_id), "groupMessage": str(text)},
            } if socket in groups.members(group_id):
                message = {"groupId": group_id, "groupMessage": text}
                await send(groups.members(group_id), "GROUP_MESSAGE", message)
            # Unknown, or not joined: the same reply, so it does not reveal which.
            case {"type": "JOIN_GROUP" | "LEAVE_GROUP", "value": str(group_id)} | {
                "type": "MESSAGE_GROUP",
                "value": {"groupId": str(group_id), "groupMessage": str()},
            }:
                await send([socket], "GROUP_UNAVAILABLE", group_id)
            case _:
                await send([socket], "INVALID_MESSAGE", None)

    async def confirm(
        self, socket: web.WebSocketResponse, kind: str, group_id: str
    ) -> None:
        """Tell a client which group it has joined."""
        value = {"groupId": group_id, "groupName": self.groups.names[group_id]}
        await send([socket], kind, value)

    async def handle_connection(self, request: web.Request) -> web.WebSocketResponse:
        """Accept a client, and answer its messages until it disconnects."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.clients.add(socket)
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self.answer(socket, parse(message.data))
        except ConnectionError:
            pass  # the client has gone; nobody is left to answer
        finally:
            self.clients.discard(socket)
            self.groups.leave_all(socket)
        return socket


def create_websocket_server(app: web.Application) -> None:
    """Make `app` accept WebSocket connections at `PATH`.

    The app is the caller's: the real one in production, a bare one in tests.
    The article's `createWebSocketServer`.
    """
    server = Server()
    app.router.add_get(PATH, server.handle_connection)


if __name__ == "__main__":
    app = web.Application()
    create_websocket_server(app)
    port = int(os.environ.get("PORT", "8080"))
    # A server that stops waits for its clients: by default, up to 2 x 60 seconds.
    web.run_app(app, host="127.0.0.1", port=port, shutdown_timeout=0.5)
