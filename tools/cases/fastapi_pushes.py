"""A FastAPI server: it has a login, pushes what is posted, and refuses strangers."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect

BUG = os.environ.get("BUG")
CLIENTS: dict[WebSocket, str] = {}
PRICES: dict[str, str] = {}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    if BUG == "does_not_start":
        raise OSError("no price list")
    PRICES["milk"] = "1.20"
    yield
    if BUG != "stays_open":
        PRICES.clear()


app = FastAPI(lifespan=lifespan)


@app.post("/login")
async def login(response: Response, name: str) -> None:
    response.set_cookie("name", name)


@app.post("/price")
async def push(price: str) -> None:
    for client in [*CLIENTS][BUG == "forgets_one" :]:
        await client.send_json({"price": price})


@app.get("/price")
def get_price() -> str:
    return PRICES["milk"]


@app.websocket("/prices")
async def prices(socket: WebSocket) -> None:
    name = socket.cookies.get("name")
    if BUG != "refuses_early":
        await socket.accept()
    if not name:
        await socket.close(4401)
        return
    if BUG == "refuses_early":
        await socket.accept()
    await asyncio.sleep(0.02)  # looks the user up
    CLIENTS[socket] = name
    try:
        while True:
            await socket.send_json({"name": name, "said": await socket.receive_text()})
    except WebSocketDisconnect:
        del CLIENTS[socket]
    if BUG == "does_not_end":
        await asyncio.Event().wait()
    if BUG == "fails":
        raise KeyError("visitors")
