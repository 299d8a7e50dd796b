"""A client's connection, and what one client may take from the others."""

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

GRACE = 0.5  # seconds that a client gets to read what is left when it is closed
RETRY_AFTER = "10"  # seconds, for a client that there is no room for


@dataclass(frozen=True)
class Limits:
    """What one client may take from the others.

    `clients`: connections at a time. A client counts only once its handshake is
    complete, which the server that the app runs on has to bound, by its
    `keepalive_timeout`: `heartbeat` will do there, too.
    `groups`: groups that one client is in at a time.
    `name_length`: characters of a group's name, each of which takes up to 4 bytes for
    as long as there is the group.
    `message_size`: bytes; a message from a client has to be smaller. It bounds what
    has to be read before anything can be refused.
    `backlog`: bytes sent to a client that the system has not taken yet, because the
    client does not read them. More than 50 of the largest messages: somebody on a
    slow line falls behind for a moment, too. All clients together can make the server
    hold `clients * backlog`.
    `heartbeat`: seconds of silence after which a client has to answer a ping, within
    half of them. Many proxies end connections that are silent for 60 seconds.
    `messages`: messages that a client may send in any `per` seconds. People type less,
    and a program that sends more takes the time of the others.
    `grace`: seconds that a group without members stays when the last one's connection
    was lost: a page that reloads, or a phone that changes its network, comes back.
    """

    clients: int = 1_000
    groups: int = 100
    name_length: int = 128
    message_size: int = 16 * 1024
    backlog: int = 1024 * 1024
    heartbeat: float = 30
    messages: int = 100
    per: float = 10
    grace: float = 30


DEFAULT_LIMITS = Limits()


def allow_open_files(clients: int) -> None:
    """Let this process open the files that so many clients need, or say what it lacks.

    Each connection is an open file, also before its handshake is complete, and when it
    is about to be refused. A process that has no file left for one logs an error, again
    and again.
    """
    needed = 2 * clients + 100
    if sys.platform != "win32":  # which has no such limit
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if resource.RLIM_INFINITY != soft < needed:
            wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            with suppress(OSError, ValueError):  # a system may allow less than it says
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            if soft < needed:
                problem = f"{clients} clients may need {needed} open files, not {soft}"
                print(f"{problem}: raise the limit (ulimit -n)", file=sys.stderr)


def is_fault_of_ours(record: logging.LogRecord) -> bool:
    """Tell whether to log a record: not when a client does not speak HTTP."""
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, HttpProcessingError)


class Connection(web.WebSocketResponse):
    """A client's connection; one that falls behind is cut off, and nobody waits."""

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
        self.per = limits.per
        self.times = deque[float](maxlen=limits.messages + 1)  # of the last messages
        self.is_lost = True  # when it ends, unless somebody has closed it by right

    def check_backlog(self) -> None:
        """Cut the client off when it is too far behind: sending to it raises then."""
        if self.transport.get_write_buffer_size() > self.backlog:
            self.transport.abort()

    def is_too_fast(self) -> bool:
        """Count a message, and tell whether it is one too many for its time."""
        now = asyncio.get_running_loop().time()
        self.times.append(now)
        return len(self.times) == self.times.maxlen and now - self.times[0] < self.per

    async def receive(self, timeout: float | None = None) -> WSMessage:
        """Receive a message; note a goodbye, after which nobody comes back."""
        message = await super().receive(timeout)
        if message.type is WSMsgType.CLOSE and message.data != WSCloseCode.GOING_AWAY:
            self.is_lost = False
        return message

    async def pong(self, message: bytes = b"") -> None:
        """Answer a ping: pings without end make a backlog, too."""
        self.check_backlog()
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
    try:
        connection = Connection(request, limits)
        await connection.prepare(request)
    except (ConnectionError, ValueError):  # it has gone; its key is not even ASCII
        raise web.HTTPBadRequest from None
    return connection


async def send(clients: Iterable[Connection], kind: str, value: object) -> None:
    """Send a message to each of `clients`; one that has gone stops nobody else's.

    No send waits, so nothing else happens meanwhile.
    """
    text = encode(kind, value)
    for client in list(clients):  # should a send wait after all, they come and go
        client.check_backlog()
        with suppress(ConnectionError):
            await client.send_str(text)


async def close(clients: Iterable[Connection]) -> None:
    """Close the connections of all `clients` at the same time: the server stops."""
    closing = [client.close(code=WSCloseCode.GOING_AWAY) for client in clients]
    await asyncio.gather(*closing)
