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

from aiohttp import web
from aiohttp.test_utils import TestServer

from step6_groups.server import create_websocket_server

TEXT = "This is a test message"
REPLY_SIZE = 2 + len(TEXT)  # bytes
Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]
failures: list[str] = []


def report(what: str, figure: float, least: float = 0, most: float = 1e9) -> None:
    """Print a ratio with its limit, and remember whether it keeps to it."""
    limit = f"at most {most}" if most < 1e9 else f"at least {least}"
    verdict = "ok" if least <= figure <= most else "FAILED"
    print(f"{what:60} {figure:5.2f}  {limit:13}  {verdict}", flush=True)
    if verdict != "ok":
        failures.append(what)


def seconds(command: str) -> float:
    """Run a command and return how long it took."""
    began = time.perf_counter()
    subprocess.run(command, shell=True, check=True, capture_output=True)
    return time.perf_counter() - began


def create_plain_server(app: web.Application) -> None:
    """Do the least that echoes or, given anything but TEXT, sends TEXT to everybody."""
    clients = []

    async def handle_connection(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        clients.append(socket)
        async for message in socket:
            if message.data == TEXT:
                await socket.send_str(message.data)
            else:
                for client in clients:
                    await client.send_str(TEXT)
        return socket

    app.router.add_get("/", handle_connection)


@asynccontextmanager
async def serve(create: Callable[[web.Application], None]) -> AsyncIterator[TestServer]:
    """Run a server on a free port."""
    app = web.Application()
    create(app)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.1)
    yield server
    await server.close()


async def connect(server: TestServer, count: int) -> list[Peer]:
    """Connect `count` clients that cost next to nothing."""
    peers = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        peers.append((reader, writer))
    return peers


async def exchange(sender: Peer, message: object, receivers: list[Peer]) -> float:
    """Send a message, as JSON or TEXT as it is; return the seconds to all replies."""
    payload = TEXT if message == TEXT else json.dumps(message)
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    began = time.perf_counter()
    sender[1].write(b"\x81" + length + bytes(4) + payload.encode())  # a mask of zeros
    for reader, _ in receivers:
        await reader.readexactly(REPLY_SIZE)
    return time.perf_counter() - began


async def time_echo(sender: Peer, message: object) -> float:
    """Return the seconds for 200 round trips."""
    return sum([await exchange(sender, message, [sender]) for _ in range(200)])


async def bench_messages() -> None:
    """Compare step 6's server with the plain one, and a small crowd with a big one."""
    async with (
        serve(create_websocket_server) as server,
        serve(create_plain_server) as p,
    ):
        peers, plain = await connect(server, 500), await connect(p, 500)
        echo, to_all = ({"type": t, "value": TEXT} for t in ("ECHO", "ECHO_TO_ALL"))
        (one, *_), (plain_one, *_) = peers, plain
        ratios = [
            await time_echo(one, echo) / await time_echo(plain_one, TEXT)
            for _ in range(25)
        ]
        report("an echo, against the plainest handler", median(ratios), most=1.5)
        ratios = [
            await exchange(plain_one, to_all, plain)
            / await exchange(one, to_all, peers)
            for _ in range(50)
        ]
        what = "deliveries a second to 500, against a bare loop"
        report(what, median(ratios), least=0.9)

    async with (
        serve(create_websocket_server) as big,
        serve(create_websocket_server) as s,
    ):
        crowds = [(await connect(big, 1010))[:10], (await connect(s, 20))[:10]]
        create, join = (
            {"type": f"{t}_GROUP", "value": "G"} for t in ("CREATE", "JOIN")
        )
        for members in crowds:
            for member, message in zip(members, [create] + [join] * 9, strict=True):
                await exchange(member, message, [])
                await member[0].readexactly(3)
        value = {"groupName": "G", "groupMessage": TEXT}
        to_group = {"type": "MESSAGE_GROUP", "value": value}
        ratios = []
        for _ in range(300):
            in_big, in_small = [await exchange(m[0], to_group, m) for m in crowds]
            ratios.append(in_big / in_small)
        what = "a message to 10 members among 1,000 clients, against 10"
        report(what, median(ratios), most=1.2)


async def traced_growth(create: Callable[[web.Application], None]) -> float:
    """Return the bytes of memory that a client holds while it is idle, both ends."""
    async with serve(create) as server:
        await connect(server, 10)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        peers = await connect(server, 200)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / len(peers)


def main() -> int:
    """Return 0 when every ratio keeps to its limit, 1 otherwise."""
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))

    imports = "import aiohttp.test_utils, pytest, pytest_asyncio"
    six = " && ".join(f"make step{step}" for step in range(1, 7))
    ratios = [
        seconds("make step3") / seconds(f".venv/bin/python -c '{imports}'")
        for _ in range(9)
    ]
    report("make step3, against the imports it needs", median(ratios), most=1.6)
    ratios = [seconds("make test") / seconds(six) for _ in range(3)]
    report("make test, against the six steps one by one", median(ratios), most=0.65)

    asyncio.run(bench_messages())

    tracemalloc.start()
    ratio = asyncio.run(traced_growth(create_websocket_server)) / asyncio.run(
        traced_growth(create_plain_server)
    )
    report("memory for an idle client, against the plainest handler", ratio, most=1.1)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
