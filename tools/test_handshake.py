"""Check what the closing handshake proves of which server, and what a fence does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import uvicorn
import websockets
from aiohttp import web
from aiohttp.test_utils import TestServer
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from step7_test_client import utils as utils7

from step3_client_helper import utils as utils3
from step3_client_helper.server import create_websocket_server

Serve = Callable[[], AbstractAsyncContextManager[int]]
TEXTS = ["one", "two", "three", "four", "five"]
ROUNDS = 30


@asynccontextmanager
async def serve_aiohttp() -> AsyncIterator[int]:
    """Run step 3's server; yield its port."""
    app = web.Application()
    create_websocket_server(app)
    async with TestServer(app) as server:
        yield server.port or 0


@asynccontextmanager
async def serve_websockets() -> AsyncIterator[int]:
    """Run the same server, written for websockets."""

    async def echo(socket: websockets.ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@asynccontextmanager
async def serve_fastapi() -> AsyncIterator[int]:
    """Run the same server, written for FastAPI, on uvicorn."""
    app = FastAPI()

    @app.websocket("/")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(await socket.receive_text())
        except WebSocketDisconnect:
            pass

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True


async def count_whole_lists(port: int, fence: bool) -> int:
    """Return in how many rounds the list is whole after the block."""
    whole = 0
    for _ in range(ROUNDS):
        if fence:
            url = f"ws://127.0.0.1:{port}"
            async with utils7.create_socket_client(url) as client7:
                for text in [*TEXTS, "fence"]:
                    await client7.send_str(text)
                await client7.wait_for_message("fence")
            whole += client7.messages == [*TEXTS, "fence"]
        else:
            async with utils3.create_socket_client(port) as (client, messages):
                for text in TEXTS:
                    await client.send_str(text)
            whole += messages == TEXTS
    return whole


@pytest.mark.parametrize("serve", [serve_aiohttp, serve_websockets, serve_fastapi])
async def test_fence_makes_the_list_whole(serve: Serve) -> None:
    async with serve() as port:
        assert await count_whole_lists(port, fence=True) == ROUNDS


async def test_handshake_makes_the_list_whole_on_aiohttp() -> None:
    async with serve_aiohttp() as port:
        assert await count_whole_lists(port, fence=False) == ROUNDS


@pytest.mark.parametrize("serve", [serve_websockets, serve_fastapi])
async def test_handshake_alone_does_not_elsewhere(serve: Serve) -> None:
    async with serve() as port:
        assert await count_whole_lists(port, fence=False) < ROUNDS / 3  # hardly ever


@asynccontextmanager
async def serve_leaky_room() -> AsyncIterator[int]:
    """Run a room whose messages reach everybody; its second one only after a while."""
    sockets: list[websockets.ServerConnection] = []
    told: list[websockets.Data] = []

    async def handle(socket: websockets.ServerConnection) -> None:
        sockets.append(socket)
        async for message in socket:
            if message == "ping":
                await socket.send("pong")
                continue
            told.append(message)
            if len(told) == 2:
                await asyncio.sleep(0.02)
                await sockets[-1].send(message)

    async with websockets.serve(handle, "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@pytest.mark.parametrize("counts", [True, False])
async def test_second_fence_needs_an_answer_of_its_own(counts: bool) -> None:
    async with serve_leaky_room() as port:
        url = f"ws://127.0.0.1:{port}"
        async with (
            utils7.create_socket_client(url) as ada,
            utils7.create_socket_client(url) as eve,
        ):
            for number in (1, 2):
                await ada.send_str("secret")
                for client in (ada, eve):  # the speaker first
                    await client.send_str("ping")
                    count = number if counts else 1
                    await client.wait_for_message("pong", count=count)
            heard = list(eve.messages)
    assert heard == (["pong", "secret", "pong"] if counts else ["pong"])
