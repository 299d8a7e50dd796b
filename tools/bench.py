"""Measure what the steps cost, as ratios: both sides of each by turns, in one run.

Run from the top of the project: `python -m tools.bench`
"""

import asyncio
import gc
import json
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median

from aiohttp import ClientWebSocketResponse, TCPConnector, web
from aiohttp.test_utils import TestClient, TestServer

from step6_groups.server import create_websocket_server

TEXT = "This is a test message"
ECHO = json.dumps({"type": "ECHO", "value": TEXT})
TO_ALL = json.dumps({"type": "ECHO_TO_ALL", "value": TEXT})
CREATE = json.dumps({"type": "CREATE_GROUP", "value": "G"})
JOIN = json.dumps({"type": "JOIN_GROUP", "value": "G"})
VALUE = {"groupName": "G", "groupMessage": TEXT}
TO_GROUP = json.dumps({"type": "MESSAGE_GROUP", "value": VALUE})
verdicts: list[str] = []


def report(what: str, ratio: float, limit: float) -> None:
    """Print a ratio, the most that it may be, and whether it is."""
    verdicts.append("ok" if ratio <= limit else "TOO MUCH")
    print(f"{what:58} {ratio:5.2f}, at most {limit:.2f}: {verdicts[-1]}", flush=True)


def run(command: str) -> float:
    """Run a command and return the seconds it took."""
    began = time.perf_counter()
    subprocess.run(command, shell=True, check=True, capture_output=True)
    return time.perf_counter() - began


def create_plain_server(app: web.Application) -> None:
    """Do the least that echoes, or sends what is no ECHO to everybody."""
    clients = []

    async def handle_connection(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        clients.append(socket)
        async for message in socket:
            for client in [socket] if message.data == ECHO else clients:
                await client.send_str(TEXT)
        return socket

    app.router.add_get("/", handle_connection)


@asynccontextmanager
async def connect(
    create: Callable[[web.Application], None], count: int
) -> AsyncIterator[list[ClientWebSocketResponse]]:
    """Start a server and connect `count` clients to it."""
    app = web.Application()
    create(app)
    async with TestClient(TestServer(app), connector=TCPConnector(limit=0)) as client:
        yield [await client.ws_connect("/") for _ in range(count)]


async def send(
    message: str, clients: list[ClientWebSocketResponse], times: int = 1
) -> float:
    """Let the first client send, and all receive; return the seconds that takes."""
    began = time.perf_counter()
    for _ in range(times):
        await clients[0].send_str(message)
        for client in clients:
            await client.receive()
    return time.perf_counter() - began


async def compare_servers() -> None:
    """Compare step 6's server with the plain one, and a big crowd with a small one."""
    async with (
        connect(create_websocket_server, 500) as ours,
        connect(create_plain_server, 500) as plain,
    ):
        ratios = [
            await send(ECHO, ours[:1], 200) / await send(ECHO, plain[:1], 200)
            for _ in range(25)
        ]
        report("an echo, against the plainest handler", median(ratios), 1.5)
        ratios = [
            await send(TO_ALL, ours) / await send(TO_ALL, plain) for _ in range(40)
        ]
        report("a broadcast to 500, against a bare loop", median(ratios), 1 / 0.9)
    async with (
        connect(create_websocket_server, 1010) as crowd,
        connect(create_websocket_server, 20) as few,
    ):
        for clients in (crowd, few):
            for client in clients[:10]:
                await send(CREATE if client is clients[0] else JOIN, [client])
        ratios = [
            await send(TO_GROUP, crowd[:10]) / await send(TO_GROUP, few[:10])
            for _ in range(300)
        ]
        report("to a group of 10 among 1,000, against among 10", median(ratios), 1.2)


async def memory(create: Callable[[web.Application], None]) -> int:
    """Return the bytes that an idle client holds, on both ends."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    async with connect(create, 200) as clients:
        await asyncio.sleep(0.2)  # until both ends are idle
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) // len(clients)


def main() -> int:
    """Return 0 if every ratio keeps to its limit, 1 otherwise."""
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1:] * 2
    resource.setrlimit(resource.RLIMIT_NOFILE, most_files)
    imports = ".venv/bin/python -c 'import aiohttp.test_utils, pytest, pytest_asyncio'"
    ratios = [run("make step3") / run(imports) for _ in range(9)]
    report("make step3, against the imports it needs", median(ratios), 1.6)
    one_by_one = " && ".join(f"make step{step}" for step in range(1, 7))
    ratios = [run("make test") / run(one_by_one) for _ in range(3)]
    report("make test, against the steps one by one", median(ratios), 0.65)
    asyncio.run(compare_servers())
    tracemalloc.start()
    servers = (create_websocket_server, create_plain_server)
    ours, plain = [asyncio.run(memory(create)) for create in servers * 2][2:]
    report("memory for an idle client, against the plainest handler", ours / plain, 1.1)
    return 1 if "TOO MUCH" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
