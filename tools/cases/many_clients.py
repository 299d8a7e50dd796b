"""A hall for hundreds of clients: a text reaches each of them, once."""

import os

from aiohttp import web

BUG = os.environ.get("BUG")
CLIENTS = web.AppKey("clients", list[web.WebSocketResponse])


async def hall(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    clients = request.app[CLIENTS]
    if BUG == "turned_away" and len(clients) == 150:
        await socket.close(code=1013)
        return socket
    if BUG != "limit" or len(clients) < 100:
        clients.append(socket)
    async for message in socket:
        number = len(clients)
        if BUG == "crowd":  # in lots of 64; what is left over is left out
            number -= number % 64
        for client in clients[:number]:
            await client.send_str(message.data)
    if socket in clients:
        clients.remove(socket)
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app[CLIENTS] = []
    app.router.add_get("/", hall)
    return app
