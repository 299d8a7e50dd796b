"""A server that listens on a Unix socket, as behind nginx."""

import os
from contextlib import suppress
from pathlib import Path

from aiohttp import web

BUG = os.environ.get("BUG")


async def greet(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        for _ in range(2 if BUG == "twice" else 1):
            await socket.send_str(f"Hello, {message.data}")
    return socket


async def start(path: Path) -> web.AppRunner:
    app = web.Application()
    app.router.add_get("/ws", greet)
    runner = web.AppRunner(app, shutdown_timeout=0.3)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    os.chmod(path, 0o666 if BUG == "mode" else 0o660)
    return runner


async def stop(runner: web.AppRunner, path: Path) -> None:
    await runner.cleanup()
    if BUG != "stays":
        with suppress(FileNotFoundError):  # from Python 3.13 on, asyncio does it
            os.unlink(path)
