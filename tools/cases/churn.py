"""A board of trains: every ten seconds a loop sends each client the current state.

Right: clients come and go during a broadcast; nobody misses a state.
BUG=live_set: the loop goes over the live set of clients. If one comes or goes while a
send waits, Python raises "Set changed size during iteration", and the loop is dead:
the server still accepts clients, but none of them ever gets a state again.
BUG=reported: the same, but the loop survives; it logs the error and tries again.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

BUG = os.environ.get("BUG", "")
CLIENTS = web.AppKey("clients", set[web.WebSocketResponse])


async def broadcast(app: web.Application, text: str) -> None:
    for client in app[CLIENTS] if BUG else app[CLIENTS].copy():
        with suppress(ConnectionError):
            await client.send_str(text)


async def poll(app: web.Application) -> None:
    for number in range(1000):
        await asyncio.sleep(10)
        try:
            await broadcast(app, f"state {number}")
        except RuntimeError:
            if BUG == "live_set":
                raise
            if BUG == "reported":
                logging.exception("broadcast")


async def polling(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(poll(app))
    yield
    task.cancel()


async def board(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    request.app[CLIENTS].add(socket)
    async for _ in socket:
        pass
    request.app[CLIENTS].discard(socket)
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app[CLIENTS] = set()
    app.router.add_get("/", board)
    app.cleanup_ctx.append(polling)
    return app
