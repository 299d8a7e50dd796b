"""The WebSocket server under test."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import suppress
from functools import partial

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.log import server_logger

from .broker import Broker, MemoryBroker, NatsBroker, UnavailableError
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
from .page import add_routes, check_handshake
from .protocol import encode, parse
from .shared_groups import SharedGroups

PATH = "/ws"  # of the WebSocket
logger = logging.getLogger(__name__)


async def deliver(clients: Iterable[Connection], data: bytes) -> None:
    """Pass on to `clients` what another process has published."""
    match parse(data):
        case {"type": str(kind), "value": value}:
            await send(clients, kind, value)
        case _:
            logger.warning("dropped what is not a message: %.99r", data)


class Server:
    """The clients, their groups, and the answers to their messages."""

    def __init__(
        self, limits: Limits, broker: Broker, origins: Collection[str]
    ) -> None:
        """Start without clients or groups."""
        self.limits = limits
        self.broker = broker
        self.origins = origins
        self.clients: set[Connection] = set()
        self.groups = SharedGroups[Connection](limits.grace, broker, deliver)

    async def run_broker(self, _: web.Application) -> AsyncIterator[None]:
        """Stay connected to the broker while the app runs."""
        await self.broker.start()
        try:
            await self.broker.subscribe("all", partial(deliver, self.clients))
            yield
        finally:
            await self.broker.stop()

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
                with suppress(UnavailableError):  # it reaches at least the clients here
                    await self.broker.publish("all", encode("ECHO", value))
                await send(self.clients, "ECHO", value)
            case {"type": "CREATE_GROUP", "value": str(name)} if (
                has_room and len(name) <= limits.name_length
            ):
                await self.create_group(socket, name)
            case {"type": "CREATE_GROUP", "value": str(name)}:
                await send([socket], "GROUP_UNAVAILABLE", name)
            case {"type": "JOIN_GROUP", "value": str(group_id)} if (
                has_room or socket in groups.members(group_id)
            ):
                await self.join_group(socket, group_id)
            case {"type": "LEAVE_GROUP", "value": str(group_id)} if (
                socket in groups.members(group_id)
            ):
                groups.leave(socket, group_id)
                await groups.settle()
                await send([socket], "GROUP_LEFT", group_id)
            case {
                "type": "MESSAGE_GROUP",
                "value": {"groupId": str(group_id), "groupMessage": str(text)},
            } if socket in groups.members(group_id):
                message = {"groupId": group_id, "groupMessage": text}
                await self.message_group(socket, group_id, message)
            # Unknown, or not joined: the same reply, so it does not reveal which.
            case {"type": "JOIN_GROUP" | "LEAVE_GROUP", "value": str(group_id)} | {
                "type": "MESSAGE_GROUP",
                "value": {"groupId": str(group_id), "groupMessage": str()},
            }:
                await send([socket], "GROUP_UNAVAILABLE", group_id)
            case _:
                await send([socket], "INVALID_MESSAGE", None)

    async def create_group(self, socket: Connection, name: str) -> None:
        """Create a group, unless the broker is away."""
        try:
            group_id = await self.groups.share(socket, name)
        except UnavailableError:
            await send([socket], "GROUP_UNAVAILABLE", name)
        else:
            await self.confirm(socket, "GROUP_CREATED", group_id)

    async def join_group(self, socket: Connection, group_id: str) -> None:
        """Add a client to a group, here or elsewhere, if there is one."""
        if await self.groups.find(group_id):
            self.groups.join(socket, group_id)
            await self.confirm(socket, "GROUP_JOINED", group_id)
        else:
            await send([socket], "GROUP_UNAVAILABLE", group_id)

    async def message_group(
        self, socket: Connection, group_id: str, message: object
    ) -> None:
        """Send a message to the members of a group, here and elsewhere."""
        try:
            await self.groups.publish(group_id, encode("GROUP_MESSAGE", message))
        except UnavailableError:  # nobody has heard it: the sender can try again
            await send([socket], "GROUP_UNAVAILABLE", group_id)
        else:
            await send(self.groups.members(group_id), "GROUP_MESSAGE", message)

    async def confirm(self, socket: Connection, kind: str, group_id: str) -> None:
        """Tell a client which group it has joined."""
        value = {"groupId": group_id, "groupName": self.groups.names[group_id]}
        await send([socket], kind, value)

    async def handle_connection(self, request: web.Request) -> web.WebSocketResponse:
        """Accept a client, and answer its messages until it disconnects."""
        check_handshake(request, self.origins)
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
    app: web.Application,
    limits: Limits = DEFAULT_LIMITS,
    broker: Broker | None = None,
    origins: Collection[str] = (),
) -> None:
    """Make `app` serve the page at `/`, and accept WebSocket connections at `PATH`.

    The app is the caller's: the real one in production, a bare one in tests.
    Clients of all apps with the same `broker` can talk to each other.
    Pages of other origins may connect only if `origins` names these. A server behind a
    proxy that ends TLS has to name its own, such as "https://chat.example".
    The article's `createWebSocketServer`.
    """
    server = Server(limits, broker or MemoryBroker(), origins)
    app.cleanup_ctx.append(server.run_broker)
    # Without `allow_head=False`, a HEAD request would be upgraded.
    app.router.add_get(PATH, server.handle_connection, allow_head=False)
    add_routes(app)
    app.on_shutdown.append(lambda _: close(server.clients))
    server_logger.addFilter(is_server_fault)


if __name__ == "__main__":
    app = web.Application()
    limits = DEFAULT_LIMITS
    raise_file_limit(limits.clients)
    url = os.environ.get("NATS_URL")
    origins = os.environ.get("ORIGINS", "").split()
    create_websocket_server(app, limits, NatsBroker(url) if url else None, origins)
    port = int(os.environ.get("PORT", "8080"))
    try:
        # A server that stops waits for its clients: by default, up to 2 x 60 seconds.
        web.run_app(
            app,
            host="127.0.0.1",
            port=port,
            shutdown_timeout=0.5,
            keepalive_timeout=limits.heartbeat,
        )
    except UnavailableError as error:
        sys.exit(str(error))
