"""The server looks the user up after it has accepted, then registers the client."""

import asyncio
import os

from aiohttp import web

BUG = os.environ.get("BUG")
CLIENTS = web.AppKey("clients", set[web.WebSocketResponse])


async def room(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await asyncio.sleep(0.02)  # SELECT * FROM users
    if BUG != "forgets":
        request.app[CLIENTS].add(socket)
    await socket.send_str("welcome")
    async for message in socket:
        for other in request.app[CLIENTS].copy():
            await other.send_str(message.data)
    request.app[CLIENTS].discard(socket)
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app[CLIENTS] = set()
    app.router.add_get("/", room)
    return app
