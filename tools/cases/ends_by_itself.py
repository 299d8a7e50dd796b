"""The server streams three lines, then closes with 1000 by itself."""

import os

from aiohttp import web

BUG = os.environ.get("BUG")


async def progress(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    for text in ("10 %", "50 %", "done"):
        if BUG == "crash" and text == "done":
            raise KeyError("disk")
        await socket.send_str(text)
    if BUG == "stays":
        async for _ in socket:
            pass
    await socket.close()
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", progress)
    return app
