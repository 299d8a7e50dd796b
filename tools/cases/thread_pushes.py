"""A server that broadcasts what a thread delivers, such as a consumer of a queue.

Right: the thread hands each text to the event loop with `call_soon_threadsafe`.
BUG=not_woken: the thread calls `loop.create_task`, which is not thread-safe. The loop
does not wake up: the clients get the text only when something else happens.
BUG=other_loop: the thread runs the broadcast in an event loop of its own.
BUG=twice: every text is handed over twice.
BUG=lost: the error of a broadcast stays in a future that nobody looks at; the second
text is lost.
"""

import asyncio
import os
from contextlib import suppress

from aiohttp import web

BUG = os.environ.get("BUG", "")


class Hub:
    """The clients, and the event loop in which they are connected."""

    def __init__(self) -> None:
        self.clients: set[web.WebSocketResponse] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.count = 0

    async def broadcast(self, text: str) -> None:
        self.count += 1
        if BUG == "lost" and self.count == 2:
            raise ValueError(text)
        for client in self.clients.copy():
            with suppress(ConnectionError):
                await client.send_str(text)

    def deliver(self, text: str) -> None:
        """Broadcast `text`; called in the consumer's thread."""
        assert self.loop is not None
        if BUG == "not_woken":
            self.loop.create_task(self.broadcast(text))
        elif BUG == "other_loop":
            asyncio.run(self.broadcast(text))
        else:
            for _ in range(2 if BUG == "twice" else 1):
                asyncio.run_coroutine_threadsafe(self.broadcast(text), self.loop)


def create_app(hub: Hub) -> web.Application:
    async def feed(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        hub.loop = asyncio.get_running_loop()
        hub.clients.add(socket)
        async for message in socket:
            await socket.send_str(f"echo {message.data}")
        hub.clients.discard(socket)
        return socket

    app = web.Application()
    app.router.add_get("/", feed)
    return app
