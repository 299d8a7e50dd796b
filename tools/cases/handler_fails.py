"""The server's code fails: before the handshake, in its loop, after it, in a task."""

import asyncio
import os

from aiohttp import web

BUG = os.environ.get("BUG")
TASKS: set[asyncio.Task[None]] = set()


async def audit(_text: str) -> None:
    if BUG == "task":
        raise KeyError("audit table missing")


async def room(request: web.Request) -> web.StreamResponse:
    if BUG == "before":
        raise KeyError("no such room")
    if BUG == "noaccept":
        return web.Response(text="sorry")
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if BUG == "in_loop":
            raise KeyError("no such command")
        TASKS.add(asyncio.create_task(audit(message.data)))
        await socket.send_str(message.data)
    if BUG == "cleanup":
        raise KeyError("never joined")
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", room)
    return app
