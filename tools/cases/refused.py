"""The server accepts strangers, then closes with 4001; nothing may be said before."""

import os

from aiohttp import web

BUG = os.environ.get("BUG")


async def room(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    if request.query.get("token") != "sesame" and BUG != "lets_in":
        if BUG == "crash":
            raise RuntimeError("no such user")
        if BUG == "hangs":
            async for _ in socket:
                pass
        if BUG == "talks":
            await socket.send_str("secret")
        code, reason = 4003 if BUG == "code" else 4001, b"bad token"
        await socket.close(code=code, message=b"" if BUG == "reason" else reason)
        return socket
    async for message in socket:
        await socket.send_str(message.data)
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", room)
    return app
