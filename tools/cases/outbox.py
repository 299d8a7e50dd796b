"""Rooms in the path; each client has a queue, and a task that sends what is in it."""

import asyncio
import os
from collections import defaultdict

from aiohttp import web

BUG = os.environ.get("BUG")
Queue = asyncio.Queue[str]
ROOMS = web.AppKey("rooms", defaultdict[str, set[Queue]])


async def empty(queue: Queue, socket: web.WebSocketResponse) -> None:
    while True:
        text = await queue.get()
        if BUG == "dies" and text == "pong":
            raise OSError("disk full")
        await asyncio.sleep(0.01)  # INSERT INTO sent ...
        await socket.send_str(text)


async def room(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    rooms, name = request.app[ROOMS], request.match_info["name"]
    queue = Queue()
    rooms[name].add(queue)
    sender = asyncio.create_task(empty(queue, socket))
    try:
        async for message in socket:
            if message.data == "ping":
                queue.put_nowait("pong")
                continue
            everyone = set.union(*rooms.values()) if BUG == "leaks" else rooms[name]
            for other in everyone:
                other.put_nowait(message.data)
                if BUG == "twice" and other is not queue:
                    other.put_nowait(message.data)
    finally:
        rooms[name].discard(queue)
        sender.cancel()
    return socket


def create_app() -> web.Application:
    app = web.Application()
    rooms: defaultdict[str, set[Queue]] = defaultdict(set)
    app[ROOMS] = rooms
    app.router.add_get("/{name}", room)
    return app
