"""Measure what the steps cost, as ratios: both sides of each by turns, in one run.

Run from the top of the project: `python -m tools.bench`
"""

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

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
Run = Callable[[], Awaitable[float]]
verdicts: list[str] = []


def report(what: str, ratio: float, limit: float) -> None:
    """Print a ratio, the most that it may be, and whether it is."""
    verdicts.append("ok" if ratio <= limit else "TOO MUCH")
    print(f"{what:58} {ratio:5.2f}, at most {limit:.2f}: {verdicts[-1]}", flush=True)


def raise_limit() -> None:
    """Allow for as many open files as this process may have."""
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1:] * 2
    resource.setrlimit(resource.RLIMIT_NOFILE, most_files)


def run(command: str) -> float:
    """Run a command and return the seconds it took."""
    began = time.perf_counter()
    subprocess.run(command, shell=True, check=True, capture_output=True)
    return time.perf_counter() - began


def compare_commands(what: str, command: str, other: str, limit: float) -> None:
    """Compare the best times of two commands, which no other work held up."""
    if len(getattr(os, "sched_getaffinity", lambda _: "12")(0)) < 2:  # not on macOS
        print(f"{what:58} needs two cores")
        return
    times = [(run(command), run(other)) for _ in range(5)]
    ours, theirs = zip(*times, strict=True)
    report(what, min(ours) / min(theirs), limit)


async def compare(what: str, ours: Run, theirs: Run, limit: float, times: int) -> None:
    """Compare the best times of two conversations, held by turns."""
    seconds = [(await ours(), await theirs()) for _ in range(times)]
    report(what, min(s for s, _ in seconds) / min(s for _, s in seconds), limit)


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
        await compare(
            "an echo, against the plainest handler",
            lambda: send(ECHO, ours[:1], 200),
            lambda: send(ECHO, plain[:1], 200),
            limit=1.5,
            times=25,
        )
        await compare(
            "a broadcast to 500, against a bare loop",
            lambda: send(TO_ALL, ours),
            lambda: send(TO_ALL, plain),
            limit=1 / 0.9,
            times=40,
        )
    async with (
        connect(create_websocket_server, 1010) as crowd,
        connect(create_websocket_server, 20) as few,
    ):
        for clients in (crowd, few):
            for client in clients[:10]:
                await send(CREATE if client is clients[0] else JOIN, [client])
        await compare(
            "to a group of 10 among 1,000, against among 10",
            lambda: send(TO_GROUP, crowd[:10]),
            lambda: send(TO_GROUP, few[:10]),
            limit=1.2,
            times=300,
        )


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
    raise_limit()
    imports = ".venv/bin/python -c 'import aiohttp.test_utils, pytest, pytest_asyncio'"
    compare_commands(
        "make step3, against the imports it needs", "make step3", imports, limit=1.6
    )
    one_by_one = " && ".join(f"make step{step}" for step in range(1, 7))
    compare_commands(
        "make test, against the steps one by one", "make test", one_by_one, limit=0.65
    )
    asyncio.run(compare_servers())
    tracemalloc.start()
    servers = (create_websocket_server, create_plain_server)
    ours, plain = [asyncio.run(memory(create)) for create in servers * 2][2:]
    report("memory for an idle client, against the plainest handler", ours / plain, 1.1)
    return 1 if "TOO MUCH" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
