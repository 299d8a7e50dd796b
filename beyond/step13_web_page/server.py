"""The WebSocket server under test."""

import asyncio
import json
import logging
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from aiohttp import WSCloseCode, WSMsgType, web

from .broker import Broker, MemoryBroker, NatsBroker, UnavailableError

GRACE = 0.5  # seconds that a client gets to read what is left when it is closed
RETRY_AFTER = "10"  # seconds, for a client that there is no room for
GROUP_ID = re.compile("[A-Za-z0-9_-]{43}")  # what secrets.token_urlsafe() returns
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one client may take from the others.

    `clients`: connections at a time. The default is below the 1,024 open files that
    many systems grant a process.
    `groups`: groups that one client is in at a time.
    `message_size`: bytes; a message from a client has to be smaller. It bounds what
    has to be read before anything can be refused.
    `backlog`: bytes sent to a client that the system has not taken yet, because the
    client does not read them. More than 50 of the largest messages: somebody on a
    slow line falls behind for a moment, too. All clients together can make the server
    hold `clients * backlog`.
    `heartbeat`: seconds of silence after which a client has to answer a ping, within
    half of them. Many proxies end connections that are silent for 60 seconds.
    A client is none before its handshake is complete, which the server that the app
    runs on has to bound, by its `keepalive_timeout`: `heartbeat` will do there, too.
    """

    clients: int = 1_000
    groups: int = 100
    message_size: int = 16 * 1024
    backlog: int = 1024 * 1024
    heartbeat: float = 30


class Connection(web.WebSocketResponse):
    """A client's connection; who does not keep up is cut off, and nobody waits."""

    def __init__(self, request: web.Request, limits: Limits) -> None:
        """Take what the connection is made of, and its limits."""
        super().__init__(
            writer_limit=sys.maxsize,  # bytes after which a send waits for the client
            max_msg_size=limits.message_size,
            heartbeat=limits.heartbeat,
            compress=False,  # it makes a broadcast half as expensive again
        )
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
        self.transport = request.transport
        self.backlog = limits.backlog

    def check_backlog(self) -> None:
        """Cut the client off when it is too far behind: sending to it raises then."""
        if self.transport.get_write_buffer_size() > self.backlog:
            self.transport.abort()

    async def pong(self, message: bytes = b"") -> None:
        """Answer a ping: pings without end make a backlog, too."""
        self.check_backlog()
        with suppress(ConnectionError):
            await super().pong(message)

    async def close(
        self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True
    ) -> bool:
        """Close the connection, and cut the client off if it does not read the rest."""
        asyncio.get_running_loop().call_later(GRACE, self.transport.abort)
        return await super().close(code=code, message=message, drain=drain)


async def open_connection(
    request: web.Request, clients: int, limits: Limits
) -> Connection:
    """Complete the handshake, unless there are as many clients as there may be."""
    if clients >= limits.clients:
        refusal = web.HTTPServiceUnavailable(headers={"Retry-After": RETRY_AFTER})
        refusal.force_close()  # or the connection would stay, for another request
        raise refusal
    connection = Connection(request, limits)
    await connection.prepare(request)
    return connection


PAGE = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
HEADERS = {
    # The page may load its own script and style, and talk to its own server: no more.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'"
    "; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # ask each time; the answer is mostly 304
}


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


def encode(kind: str, value: object) -> str:
    """Return a message, as clients and brokers get it."""
    return json.dumps({"type": kind, "value": value})


async def send(clients: Iterable[Connection], kind: str, value: object) -> None:
    """Send a message to each of `clients`; one that has gone stops nobody else's.

    Nothing else happens meanwhile, for no send waits.
    """
    text = encode(kind, value)
    for client in clients:
        client.check_backlog()
        with suppress(ConnectionError):
            await client.send_str(text)


async def deliver(clients: Iterable[Connection], data: bytes) -> None:
    """Send `clients` what another process has published."""
    match parse(data):
        case {"type": str(kind), "value": value}:
            await send(clients, kind, value)
        case _:
            logger.error("dropped what is no message: %.99r", data)


async def close(clients: Iterable[Connection]) -> None:
    """Close the connections of all `clients` at the same time: the server stops."""
    closing = [client.close(code=WSCloseCode.GOING_AWAY) for client in clients]
    await asyncio.gather(*closing)


@dataclass
class Group:
    """A group that has members here; names may repeat."""

    name: str
    members: set[Connection] = field(default_factory=set)


async def serve_page(request: web.Request) -> web.FileResponse:
    """Answer with one of the page's files, which lie beside this one."""
    name, content_type = PAGE[request.path]
    headers = HEADERS | {"Content-Type": f"{content_type}; charset=utf-8"}
    return web.FileResponse(Path(__file__).with_name(name), headers=headers)


def check_origin(request: web.Request, origins: Collection[str]) -> None:
    """Raise 403 when a page asks that is neither this server's own nor of `origins`.

    Whatever is no browser sends no origin, and is let in: it could claim any.
    """
    try:
        own_origin = str(request.url.origin())
    except ValueError as error:  # such as that of `Host: :80`
        raise web.HTTPBadRequest(text="This is no host.") from error
    if request.headers.get("Origin") not in (None, own_origin, *origins):
        raise web.HTTPForbidden(text="Pages of this origin may not connect.")


def create_websocket_server(
    app: web.Application,
    limits: Limits = Limits(),
    broker: Broker | None = None,
    origins: Collection[str] = (),
) -> None:
    """Make `app` serve the page at `/`, and accept WebSocket connections at `/ws`.

    Pages of other origins may connect only if these are in `origins`: for a server
    behind a proxy that ends TLS, that is its own, such as "https://chat.example".
    The app is the caller's: the real one in production, a bare one in tests.
    Clients of all apps whose `broker` is the same can talk to each other.
    The article's `createWebSocketServer`.
    """
    broker = broker or MemoryBroker()
    clients: dict[Connection, set[str]] = {}  # and the ids of their groups
    groups: dict[str, Group] = {}  # by their ids, those with members here
    locks = WeakValueDictionary[str, asyncio.Lock]()  # by their ids, while they open

    async def open_group(group_id: str, name: str | None) -> None:
        """Take part in a group, as its first member here does."""
        subject = f"groups.{group_id}"
        if name is None:
            name = await broker.ask(subject)
        group = Group(name)
        await broker.subscribe(subject, partial(deliver, group.members), name)
        groups[group_id] = group

    async def join_group(
        socket: Connection,
        group_id: str,
        reply: str,
        new_name: str | None = None,
    ) -> None:
        try:
            # Clients who join at the same time must not subscribe twice.
            async with locks.setdefault(group_id, asyncio.Lock()):
                if group_id not in groups:
                    await open_group(group_id, new_name)
                group = groups[group_id]
                group.members.add(socket)
                clients[socket].add(group_id)
        except UnavailableError:
            asked_for = group_id if new_name is None else new_name
            await send([socket], "GROUP_UNAVAILABLE", asked_for)
        else:
            await send([socket], reply, {"groupId": group_id, "groupName": group.name})

    async def leave_group(socket: Connection, group_id: str) -> None:
        clients[socket].remove(group_id)
        groups[group_id].members.remove(socket)
        if not groups[group_id].members:
            del groups[group_id]
            await broker.unsubscribe(f"groups.{group_id}")

    async def message_group(socket: Connection, group_id: str, message: object) -> None:
        try:
            text = encode("GROUP_MESSAGE", message)
            await broker.publish(f"groups.{group_id}", text)
        except UnavailableError:  # nobody hears it: the sender can try again
            await send([socket], "GROUP_UNAVAILABLE", group_id)
        else:
            await send(groups[group_id].members, "GROUP_MESSAGE", message)

    async def answer(socket: Connection, message: object) -> None:
        match message:
            case {"type": "ECHO", "value": str(value)}:
                await send([socket], "ECHO", value)
            case {"type": "ECHO_TIMES_3", "value": str(value)}:
                for _ in range(3):
                    await send([socket], "ECHO", value)
            case {"type": "ECHO_TO_ALL", "value": str(value)}:
                with suppress(UnavailableError):  # then it reaches those who are here
                    await broker.publish("all", encode("ECHO", value))
                await send(clients, "ECHO", value)
            case {"type": "CREATE_GROUP", "value": str(name)} if (
                len(clients[socket]) < limits.groups
            ):
                group_id = secrets.token_urlsafe()
                await join_group(socket, group_id, "GROUP_CREATED", name)
            case {"type": "JOIN_GROUP", "value": str(group_id)} if (
                GROUP_ID.fullmatch(group_id)  # it goes into a subject
                and len(clients[socket] | {group_id}) <= limits.groups
            ):
                await join_group(socket, group_id, "GROUP_JOINED")
            case {"type": "LEAVE_GROUP", "value": str(group_id)} if (
                group_id in clients[socket]
            ):
                await leave_group(socket, group_id)
                await send([socket], "GROUP_LEFT", group_id)
            case {
                "type": "MESSAGE_GROUP",
                "value": {"groupId": str(group_id), "groupMessage": str(text)},
            } if group_id in clients[socket]:
                message = {"groupId": group_id, "groupMessage": text}
                await message_group(socket, group_id, message)
            case {
                "type": "CREATE_GROUP" | "JOIN_GROUP" | "LEAVE_GROUP",
                "value": str(group),  # a name to create, or else an id
            } | {
                "type": "MESSAGE_GROUP",
                "value": {"groupId": str(group), "groupMessage": str()},
            }:
                await send([socket], "GROUP_UNAVAILABLE", group)
            case _:
                await send([socket], "INVALID_MESSAGE", None)

    async def handle_connection(request: web.Request) -> web.WebSocketResponse:
        check_origin(request, origins)
        socket = await open_connection(request, len(clients), limits)
        clients[socket] = set()
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await answer(socket, parse(message.data))
                    await asyncio.sleep(0)  # the others' turn: no send waits
        finally:
            for group_id in list(clients[socket]):
                await leave_group(socket, group_id)
            del clients[socket]
        return socket

    async def run_broker(_: web.Application) -> AsyncIterator[None]:
        await broker.start()
        await broker.subscribe("all", partial(deliver, clients))
        yield
        await broker.stop()

    app.cleanup_ctx.append(run_broker)
    app.add_routes(
        [web.get("/ws", handle_connection), *(web.get(p, serve_page) for p in PAGE)]
    )
    app.on_shutdown.append(lambda _: close(clients))


if __name__ == "__main__":
    app = web.Application()
    limits = Limits()
    url = os.environ.get("NATS_URL")
    origins = os.environ.get("ORIGINS", "").split()
    create_websocket_server(app, limits, NatsBroker(url) if url else None, origins)
    port = int(os.environ.get("PORT", "8080"))
    try:
        # A server that stops waits for its clients, by default for 2 x 60 seconds.
        web.run_app(
            app,
            host="127.0.0.1",
            port=port,
            shutdown_timeout=0.5,
            keepalive_timeout=limits.heartbeat,
        )
    except UnavailableError as error:
        sys.exit(str(error))
