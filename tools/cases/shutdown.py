"""When the server stops, it closes its clients' connections: 1001, "restarting"."""

import os

from aiohttp import WSCloseCode, web

BUG = os.environ.get("BUG")
CLIENTS = web.AppKey("clients", set[web.WebSocketResponse])


async def room(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    request.app[CLIENTS].add(socket)
    async for message in socket:
        await socket.send_str(message.data)
    request.app[CLIENTS].discard(socket)
    return socket


async def say_goodbye(app: web.Application) -> None:
    code = 1000 if BUG == "1000" else WSCloseCode.GOING_AWAY
    for socket in app[CLIENTS].copy():
        if BUG != "none":
            await socket.close(code=code, message=b"restarting")


def create_app() -> web.Application:
    app = web.Application()
    app[CLIENTS] = set()
    app.router.add_get("/", room)
    app.on_shutdown.append(say_goodbye)
    return app
