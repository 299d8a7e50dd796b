"""A client's connection, and the limits of what one client may use."""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from aiohttp.http import HttpProcessingError

from .protocol import encode

if sys.platform != "win32":
    import resource

GRACE = 0.5  # seconds to read what is left when the server closes a connection
RETRY_AFTER = "10"  # seconds, for clients that are refused


@dataclass(frozen=True)
class Limits:
    """Limits of what one client may use.

    `clients`: connections at a time. A client counts only once its handshake is
    complete. How long that may take is up to the server that runs the app: set its
    `keepalive_timeout`, for example to `heartbeat`.
    `groups`: groups that one client can be in at a time.
    `name_length`: characters of a group's name. Each takes up to 4 bytes while the
    group exists.
    `message_size`: bytes; a message from a client must be smaller. The server has to
    read this much before it can refuse anything.
    `backlog`: bytes that wait in the server because a client does not read them. Room
    for more than 50 of the largest messages, because a client on a slow line falls
    behind for a moment, too. All clients together can fill `clients * backlog`.
    `heartbeat`: seconds of silence after which the server sends a ping; the client has
    half of that to answer. Many proxies end connections that are silent for 60 s.
    `messages`: messages that a client may send in any `window` seconds. People type
    less; a program that sends more slows down everybody else.
    `grace`: seconds that a group stays after its last member's connection was lost. A
    page that reloads, or a phone that changes its network, comes back.
    """

    clients: int = 1_000
    groups: int = 100
    name_length: int = 128
    message_size: int = 16 * 1024
    backlog: int = 1024 * 1024
    heartbeat: float = 30
    messages: int = 100
    window: float = 10
    grace: float = 30


DEFAULT_LIMITS = Limits()


def raise_file_limit(clients: int) -> None:
    """Raise this process's limit of open files for `clients`; warn if that fails.

    Each connection is an open file, also during its handshake, and while it is being
    refused. A process without free files logs an error, again and again.
    """
    needed = 2 * clients + 100
    if sys.platform != "win32":  # Windows has no such limit
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if resource.RLIM_INFINITY != soft < needed:
            wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            with suppress(OSError, ValueError):  # some systems allow less than they say
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            if soft < needed:
                problem = f"{clients} clients may need {needed} open files, not {soft}"
                print(f"{problem}: raise the limit (ulimit -n)", file=sys.stderr)


def is_server_fault(record: logging.LogRecord) -> bool:
    """Tell whether to log a record: not if a client does not speak HTTP."""
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, HttpProcessingError)


class Connection(web.WebSocketResponse):
    """A client's connection. If it falls behind it is cut off; no send waits for it."""

    def __init__(self, request: web.Request, limits: Limits) -> None:
        """Take the request, and the limits."""
        super().__init__(
            writer_limit=sys.maxsize,  # bytes; beyond this, a send would wait
            max_msg_size=limits.message_size,
            heartbeat=limits.heartbeat,
            compress=False,  # it would make a broadcast cost 1.5 times as much
        )
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
        self.request = request
        self.transport = request.transport
        self.backlog = limits.backlog
        self.window = limits.window
        self.times = deque[float](maxlen=limits.messages + 1)  # of the last messages
        self.is_lost = True  # in the end, unless one side closes it properly

    def cut_off(self) -> None:
        """Cut the client off, if it is still connected."""
        if self.request.transport:
            self.transport.abort()

    def check_backlog(self) -> None:
        """Cut the client off if it is too far behind: then sending to it raises."""
        if self.transport.get_write_buffer_size() > self.backlog:
            self.cut_off()

    def is_too_fast(self) -> bool:
        """Count a message; tell whether it is one too many in this time."""
        now = asyncio.get_running_loop().time()
        self.times.append(now)
        is_full = len(self.times) == self.times.maxlen
        return is_full and now - self.times[0] < self.window

    async def receive(self, timeout: float | None = None) -> WSMessage:
        """Receive a message; after its close frame, a client does not come back."""
        message = await super().receive(timeout)
        if message.type is WSMsgType.CLOSE and message.data != WSCloseCode.GOING_AWAY:
            self.is_lost = False
        return message

    async def pong(self, message: bytes = b"") -> None:
        """Answer a ping; pongs count in the backlog, too."""
        self.check_backlog()
        await super().pong(message)

    async def close(
        self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True
    ) -> bool:
        """Close the connection; cut the client off if it does not read the rest."""
        asyncio.get_running_loop().call_later(GRACE, self.cut_off)
        return await super().close(code=code, message=message, drain=drain)


async def open_connection(
    request: web.Request, clients: int, limits: Limits
) -> Connection:
    """Complete the handshake, unless there are too many clients."""
    if clients >= limits.clients:
        refusal = web.HTTPServiceUnavailable(headers={"Retry-After": RETRY_AFTER})
        refusal.force_close()  # or the connection would stay open
        raise refusal
    try:
        connection = Connection(request, limits)
        await connection.prepare(request)
    except (ConnectionError, ValueError):  # it has gone, or its key is not ASCII
        raise web.HTTPBadRequest from None
    return connection


async def send(clients: Iterable[Connection], kind: str, value: object) -> None:
    """Send a message to all `clients`, except those that have gone.

    No send waits, so nothing else happens in between.
    """
    text = encode(kind, value)
    for client in list(clients):  # the set could change if a send waited after all
        client.check_backlog()
        with suppress(ConnectionError):
            await client.send_str(text)


async def close(clients: Iterable[Connection]) -> None:
    """Close all connections at the same time, because the server stops."""
    closing = [client.close(code=WSCloseCode.GOING_AWAY) for client in clients]
    await asyncio.gather(*closing)
