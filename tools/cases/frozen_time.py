"""A session ends after 15 minutes without a word; the test turns the clock."""

import os
import time

from aiohttp import web

BUG = os.environ.get("BUG")
IDLE = 15 * 60


async def session(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    last = time.time()
    async for message in socket:
        if time.time() - last <= IDLE:
            await socket.send_str(message.data)
        elif BUG != "silent":
            await socket.send_str("session expired")
        last = time.time()
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", session)
    return app
