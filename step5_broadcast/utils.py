"""Utilities for the tests of a WebSocket server."""

import asyncio
import os
import re
import reprlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSCloseCode, WSMsgType, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

__tracebackhide__ = True  # pytest's reports show the test, not this file
# The limit of a wait, in seconds. Most take milliseconds; slow machines set more.
TIMEOUT = float(os.environ.get("TIMEOUT") or "1")


class SocketState(Enum):
    """The states of a connection; their values are those of `socket.closed`."""

    OPEN = False
    CLOSED = True


class Messages(list[str | bytes]):
    """The messages that a client has received, and the state of its connection."""

    number = 0  # of the client, in reports
    close_sent = ended_well = False
    ending = ""  # how the connection ended, in words

    def __str__(self) -> str:
        """Return what a report says of the client."""
        received = f"received {len(self)}: {reprlib.repr(list(self))}"
        return f"client {self.number}: {self.ending or 'connected'}; {received}"


open_clients: dict[ClientWebSocketResponse, Messages] = {}  # whose block has not ended
pongs: set[bytes] = set()  # what they have brought back


def compute_port() -> int:
    """Return `BASE_PORT + 100 * worker + step`; in the article, `3000 + worker`."""
    base_port = int(os.environ.get("BASE_PORT") or "3000")
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    return base_port + 100 * worker + (int(step[1]) if step else 99)


async def start_server(
    aiohttp_server: AiohttpServer, app: web.Application, port: int, **options: Any
) -> TestServer:
    """Run `app` on `port` until the test has ended; the article's `startServer`."""
    options = {"shutdown_timeout": 0.3 * TIMEOUT, **options}  # by default, 2 x 60 s
    server = await aiohttp_server(app, port=port, **options)
    server.handler.handler_cancellation = False  # as run_app(): a handler may clean up
    return server


@asynccontextmanager
async def bounded(what: str, timeout: float = TIMEOUT) -> AsyncIterator[None]:
    """Bound a wait for `what` to `timeout` seconds: then it raises `TimeoutError`."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError:
        raise TimeoutError(f"waited {timeout:g} s for {what}") from None


async def wait_for_socket_state(
    socket: ClientWebSocketResponse, state: SocketState, timeout: float = TIMEOUT
) -> None:
    """Wait until `socket` is in `state`; the article's `waitForSocketState`.

    Raises `TimeoutError` after `timeout` seconds, `ConnectionError` if it is too late.
    """
    async with bounded(f"the socket to be {state.name}", timeout):
        while socket.closed is not state.value:
            if socket.closed:
                raise ConnectionError(f"the socket is CLOSED, not {state.name}")
            await asyncio.sleep(0.001)


async def settle(client: ClientWebSocketResponse) -> None:
    """Wait until the server has handled everything that `client` has sent.

    aiohttp's server answers a ping when its handler asks for the next message: after
    all that came before. After a close frame, this waits for the server's close frame.
    """
    if client not in open_clients:
        raise ValueError("settle() knows only clients whose block has not ended")
    messages = open_clients[client]
    payload = os.urandom(8)  # so that each ping knows its pong
    if not messages.close_sent:
        with suppress(ConnectionError):  # listen() says how the connection ended
            await client.ping(payload)
    async with bounded(f"the server to handle all that client {messages.number} sent"):
        while not (messages.ending or payload in pongs):
            await asyncio.sleep(0.001)


async def send_close(client: ClientWebSocketResponse, messages: Messages) -> None:
    """Send a close frame, once; `client.close()` would discard messages."""
    if not messages.close_sent:
        messages.close_sent = True
        with suppress(ConnectionError):  # listen() says how the connection ended
            await client.send_frame(WSCloseCode.OK.to_bytes(2), WSMsgType.CLOSE)


async def listen(
    client: ClientWebSocketResponse, messages: Messages, close_after: int | None
) -> None:
    """Record messages until the connection ends, and then how it ended."""
    while True:
        if len(messages) == close_after:
            await send_close(client, messages)
        frame = await client.receive()
        if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            messages.append(frame.data)
        elif frame.type is WSMsgType.PING:
            with suppress(ConnectionError):
                await client.pong(frame.data)
        elif frame.type is WSMsgType.PONG:
            pongs.add(bytes(frame.data))
        else:
            break
    if frame.type is WSMsgType.CLOSE:
        end = f"the server closed with {frame.data or 'no code'} {frame.extra!r}"
    else:
        end = f"no close frame came ({frame.data or frame.type.name})"
    messages.ended_well = messages.close_sent and frame.data == WSCloseCode.OK
    when = "after" if messages.close_sent else "before"
    messages.ending = f"{end}, {when} the client's close frame"


@asynccontextmanager
async def create_socket_client(
    port: int, close_after: int | None = None
) -> AsyncIterator[tuple[ClientWebSocketResponse, Messages]]:
    """Connect a client; yield it, and the list in which its messages are recorded.

    After `close_after` messages, or when the block ends and all open clients have
    settled, the client sends a close frame, and records until the server's close frame:
    then the list is complete. Raises `TimeoutError` or `ConnectionError` if the
    connection ends in another way. The article's `createSocketClient`.
    """
    messages = Messages()
    async with ClientSession() as session:
        async with bounded("the server to open the connection"):
            client = await session.ws_connect(f"ws://127.0.0.1:{port}", autoping=False)
        transport = client._writer.transport
        transport.set_write_buffer_limits(2**30)  # no send waits for a stuck server
        listener = asyncio.create_task(listen(client, messages, close_after))
        open_clients[client] = messages
        messages.number = 1 + max(it.number for it in open_clients.values())
        try:
            await settle(client)
            yield client, messages
            await asyncio.gather(*map(settle, open_clients))
            await send_close(client, messages)
            async with bounded("the server's close frame"):
                await asyncio.wait([listener])
        except BaseException as error:  # also what pytest.fail() raises
            error.add_note(str(messages))
            raise
        finally:
            del open_clients[client]
            transport.abort()  # which a stuck server leaves open; it ends the listener
            await asyncio.wait([listener])
    if not messages.ended_well:
        raise ConnectionError(str(messages))
