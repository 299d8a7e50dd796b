"""A task that starts with the app pushes every 10 s; commands are answered between."""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

BUG = os.environ.get("BUG")
CLIENTS = web.AppKey("clients", set[web.WebSocketResponse])


async def tick(app: web.Application) -> None:
    for number in range(1, 1000):
        await asyncio.sleep(10)
        if BUG == "dies" and number == 2:
            raise KeyError("sensor 7")
        for socket in app[CLIENTS].copy():
            await socket.send_json({"type": "weather", "n": number})


async def station(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    request.app[CLIENTS].add(socket)
    async for message in socket:
        await socket.send_json({"type": "answer", "to": message.data})
    request.app[CLIENTS].discard(socket)
    return socket


async def background(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(tick(app))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def create_app() -> web.Application:
    app = web.Application()
    app[CLIENTS] = set()
    app.router.add_get("/", station)
    app.cleanup_ctx.append(background)
    return app
