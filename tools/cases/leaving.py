"""When a client leaves, its row is set offline, and the others hear of it."""

import asyncio
import os

from aiohttp import web

BUG = os.environ.get("BUG")
CLIENTS = web.AppKey("clients", dict[str, web.WebSocketResponse])
ONLINE = web.AppKey("online", set[str])


async def room(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    name = request.query["name"]
    clients, online = request.app[CLIENTS], request.app[ONLINE]
    clients[name] = socket
    online.add(name)
    try:
        async for message in socket:
            await socket.send_str(message.data)
    finally:
        del clients[name]
        await asyncio.sleep(0.005)  # UPDATE clients SET ...
        if BUG != "forgets":
            online.discard(name)
        for other in list(clients.values()):
            if BUG != "silent":
                await other.send_str(f"{name} left")
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app[CLIENTS], app[ONLINE] = {}, set()
    app.router.add_get("/", room)
    return app
