"""A server that stores each message in a task of its own, in a thread's database.

Right: when the message has been stored, the one who sent it hears so, once.
BUG=twice: the task says it again, after another query.
BUG=another_task: the task starts another one, which tells everybody.
BUG=fails: the task fails after its answer.
"""

import asyncio
import os
import time

from aiohttp import web

BUG = os.environ.get("BUG", "")
CLIENTS = web.AppKey("clients", set[web.WebSocketResponse])
TASKS = web.AppKey("tasks", set[asyncio.Task[None]])


def start(app: web.Application, task: asyncio.Task[None]) -> None:
    app[TASKS].add(task)
    task.add_done_callback(app[TASKS].discard)


async def tell_everybody(app: web.Application, text: str) -> None:
    for client in app[CLIENTS].copy():
        await client.send_str(text)


async def store(app: web.Application, client: web.WebSocketResponse, text: str) -> None:
    for _ in range(2 if BUG == "twice" else 1):
        await asyncio.to_thread(time.sleep, 0.05)  # INSERT INTO messages ...
        await client.send_str(f"stored {text}")
    if BUG == "another_task":
        start(app, asyncio.create_task(tell_everybody(app, text)))
    elif BUG == "fails":
        raise KeyError("statistics")


async def feed(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    request.app[CLIENTS].add(socket)
    async for message in socket:
        task = asyncio.create_task(store(request.app, socket, message.data))
        start(request.app, task)
    request.app[CLIENTS].discard(socket)
    return socket


def create_app() -> web.Application:
    app = web.Application()
    app[CLIENTS], app[TASKS] = set(), set()
    app.router.add_get("/", feed)
    return app
