"""The app takes long to start: all tests share it, each has its own clients."""

import asyncio
import os

from aiohttp import web

BUG = os.environ.get("BUG")
MODEL = web.AppKey("model", dict[str, str])


async def load(app: web.Application) -> None:
    await asyncio.sleep(0.5)  # this is slow
    app[MODEL] = {"a": "1"}


async def look_up(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    model = request.app[MODEL]
    async for message in socket:
        answer = model.pop if BUG == "once" else model.get
        await socket.send_str(answer(message.data, "?"))
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app.on_startup.append(load)
    app.router.add_get("/", look_up)
    return app
