"""An HTTP POST makes the server push to all WebSocket clients, each once."""

import asyncio
import os

from aiohttp import web

BUG = os.environ.get("BUG")
CLIENTS = web.AppKey("clients", set[web.WebSocketResponse])
TASKS: set[asyncio.Task[None]] = set()


async def feed(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    request.app[CLIENTS].add(socket)
    async for _ in socket:
        pass
    request.app[CLIENTS].discard(socket)
    return socket


async def push(app: web.Application, text: str) -> None:
    for socket in app[CLIENTS].copy():
        await socket.send_str(text)


async def push_twice(app: web.Application, text: str, pause: float) -> None:
    await asyncio.sleep(pause)
    await push(app, text)
    await push(app, text)


async def new_price(request: web.Request) -> web.Response:
    text = await request.text()
    if BUG == "late":
        TASKS.add(asyncio.create_task(push_twice(request.app, text, 0.05)))
    elif BUG == "late0":
        TASKS.add(asyncio.create_task(push_twice(request.app, text, 0)))
    else:
        await push(request.app, text)
    if BUG == "twice":
        await push(request.app, text)
    return web.Response(status=204)


def create_app() -> web.Application:
    app = web.Application()
    app[CLIENTS] = set()
    app.router.add_get("/", feed)
    app.router.add_post("/prices", new_price)
    return app
