"""A client that answers no pings is dropped, and the others hear of it."""

import os

from aiohttp import web

BUG = os.environ.get("BUG")
CLIENTS = web.AppKey("clients", dict[str, web.WebSocketResponse])


async def room(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(heartbeat=None if BUG == "off" else 30)
    await socket.prepare(request)
    name = request.query["name"]
    clients = request.app[CLIENTS]
    clients[name] = socket
    async for message in socket:
        if message.type is web.WSMsgType.TEXT:
            await socket.send_str(message.data)
    del clients[name]
    for other in list(clients.values()):
        await other.send_str(f"{name} left")
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app[CLIENTS] = {}
    app.router.add_get("/", room)
    return app
