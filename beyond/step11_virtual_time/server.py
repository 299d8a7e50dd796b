"""The WebSocket server under test."""

import asyncio
import os

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.log import server_logger

from .connection import (
    DEFAULT_LIMITS,
    Connection,
    Limits,
    close,
    is_server_fault,
    open_connection,
    raise_file_limit,
    send,
)
from .groups import Groups
from .protocol import parse

PATH = "/"  # of the WebSocket


class Server:
    """The clients, their groups, and the answers to their messages."""

    def __init__(self, limits: Limits) -> None:
        """Start without clients or groups."""
        self.limits = limits
        self.clients: set[Connection] = set()
        self.groups = Groups[Connection](limits.grace)

    async def answer(self, socket: Connection, message: object) -> None:
        """Answer a message, and pass it on to everyone it is for."""
        groups, limits = self.groups, self.limits
        has_room = len(groups.groups_of.get(socket, ())) < limits.groups
        match message:
            case {"type": "ECHO", "value": str(value)}:
                await send([socket], "ECHO", value)
            case {"type": "ECHO_TIMES_3", "value": str(value)}:
                for _ in range(3):
                    await send([socket], "ECHO", value)
            case {"type": "ECHO_TO_ALL", "value": str(value)}:
                await send(self.clients, "ECHO", value)
            case {"type": "CREATE_GROUP", "value": str(name)} if (
                has_room and len(name) <= limits.name_length
            ):
                await self.confirm(socket, "GROUP_CREATED", groups.create(socket, name))
            case {"type": "CREATE_GROUP", "value": str(name)}:
                await send([socket], "GROUP_UNAVAILABLE", name)
            case {"type": "JOIN_GROUP", "value": str(group_id)} if (
                group_id in groups and (has_room or socket in groups.members(group_id))
            ):
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

    async def confirm(self, socket: Connection, kind: str, group_id: str) -> None:
        """Tell a client which group it has joined."""
        value = {"groupId": group_id, "groupName": self.groups.names[group_id]}
        await send([socket], kind, value)

    async def handle_connection(self, request: web.Request) -> web.WebSocketResponse:
        """Accept a client, and answer its messages until it disconnects."""
        socket = await open_connection(request, len(self.clients), self.limits)
        self.clients.add(socket)
        try:
            async for message in socket:
                if socket.is_too_fast():
                    socket.is_lost = False
                    code = WSCloseCode.POLICY_VIOLATION
                    await socket.close(code=code, message=b"too many messages")
                elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self.answer(socket, parse(message.data))
                    await asyncio.sleep(0)  # let others run, because no send waits
        except ConnectionError:
            pass  # the client has gone; nobody is left to answer
        finally:
            self.clients.discard(socket)
            self.groups.leave_all(socket, lost=socket.is_lost)
        return socket


def create_websocket_server(
    app: web.Application, limits: Limits = DEFAULT_LIMITS
) -> None:
    """Make `app` accept WebSocket connections at `PATH`, within `limits`.

    The app is the caller's: the real one in production, a bare one in tests.
    The article's `createWebSocketServer`.
    """
    server = Server(limits)
    app.router.add_get(PATH, server.handle_connection)
    app.on_shutdown.append(lambda _: close(server.clients))
    server_logger.addFilter(is_server_fault)


if __name__ == "__main__":
    app = web.Application()
    limits = DEFAULT_LIMITS
    raise_file_limit(limits.clients)
    create_websocket_server(app, limits)
    port = int(os.environ.get("PORT", "8080"))
    # A server that stops waits for its clients: by default, up to 2 x 60 seconds.
    web.run_app(
        app,
        host="127.0.0.1",
        port=port,
        shutdown_timeout=0.5,
        keepalive_timeout=limits.heartbeat,
    )
