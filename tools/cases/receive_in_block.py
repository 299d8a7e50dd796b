"""Somebody who knows `receive_str()` tests a server that answers twice."""

import asyncio
import os

from aiohttp import web

BUG = os.environ.get("BUG")


async def orders(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if BUG == "silent":
            continue
        if BUG == "deaf":
            await asyncio.Event().wait()
        await socket.send_str(f"accepted {message.data}")
        await socket.send_str(f"baked {message.data}")
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", orders)
    return app
