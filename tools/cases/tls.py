"""A wss server with a certificate of one's own, which a stranger does not trust."""

import os

from aiohttp import web

BUG = os.environ.get("BUG")


async def vault(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    secure = request.secure and BUG != "insecure"
    async for message in socket:
        await socket.send_str(f"secure={secure} {message.data}")
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", vault)
    return app
