"""Files of 6 MiB both ways; those of more than 8 are refused with 1009."""

import os

from aiohttp import web

BUG = os.environ.get("BUG")
LIMIT = (4 if BUG == "small" else 100 if BUG == "none" else 8) * 2**20


async def files(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=LIMIT)
    await socket.prepare(request)
    async for message in socket:
        if message.type is web.WSMsgType.BINARY:
            await socket.send_str(f"stored {len(message.data)}")
        elif message.type is web.WSMsgType.TEXT:
            await socket.send_bytes(b"x" * int(message.data))
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", files)
    return app
