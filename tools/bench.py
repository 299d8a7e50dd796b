"""Measure what the text says that the steps cost."""

import asyncio
import gc
import json
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial

from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector, web
from aiohttp.test_utils import TestClient, TestServer
from step9_group_ids.messages import create, leave
from step9_group_ids.server import create_websocket_server as create_step9
from step10_bad_clients.connection import Limits
from step10_bad_clients.server import create_websocket_server as create_step10
from step12_many_processes.messages import join, message
from step12_many_processes.more.processes import start_broker, start_process

GROUPS = 100_000
MESSAGES = 90  # a server closes a connection that sends 100 in ten seconds
TEXT = "This is a test message"
ECHO = json.dumps({"type": "ECHO", "value": TEXT})
LONG_ECHO = json.dumps({"type": "ECHO", "value": "x" * 100_000})
TO_ALL = json.dumps({"type": "ECHO_TO_ALL", "value": TEXT})
Run = Callable[[], Awaitable[float]]
verdicts: list[str] = []


def report(what: str, ratio: float, limit: float) -> None:
    """Print a ratio, the most that it may be, and whether it is."""
    verdicts.append("ok" if ratio <= limit else "TOO MUCH")
    print(f"{what:58} {ratio:5.2f}, at most {limit:.2f}: {verdicts[-1]}", flush=True)


async def compare(what: str, ours: Run, theirs: Run, limit: float) -> None:
    """Compare the best times of two conversations, held by turns."""
    seconds = [(await ours(), await theirs()) for _ in range(60)]
    report(what, min(s for s, _ in seconds) / min(s for _, s in seconds), limit)


@asynccontextmanager
async def connect(
    create: Callable[[web.Application], None], count: int
) -> AsyncIterator[list[ClientWebSocketResponse]]:
    """Start a server and connect `count` clients to it."""
    app = web.Application()
    create(app)
    async with TestClient(TestServer(app), connector=TCPConnector(limit=0)) as client:
        yield [await client.ws_connect("/") for _ in range(count)]


async def send(message: str, clients: list[ClientWebSocketResponse]) -> float:
    """Let the first client send, and all receive; return the seconds that takes."""
    began = time.perf_counter()
    await clients[0].send_str(message)
    for client in clients:
        await client.receive()
    return time.perf_counter() - began


async def count_blocks_that_groups_leave() -> None:
    """Make groups, leave them, and count what of them stays in memory."""
    async with connect(create_step9, 1) as (client,):

        async def make(count: int) -> int:
            for _ in range(count):
                await client.send_json(create("A"))
                group_id = (await client.receive_json())["value"]["groupId"]
                await client.send_json(leave(group_id))
                await client.receive()
            gc.collect()
            return sys.getallocatedblocks()

        before = await make(1_000)
        blocks = await make(GROUPS) - before
    report("memory blocks that a group leaves behind", blocks / GROUPS, 0.1)


def create_plain_server(app: web.Application) -> None:
    """Do the least that sends a message to everybody, in step 10's words."""
    clients = []

    async def handle_connection(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        clients.append(socket)
        async for _ in socket:
            for client in clients:
                await client.send_str(ECHO)
        return socket

    app.router.add_get("/", handle_connection)


async def compare_bad_clients() -> None:
    """Compare step 10's broadcast, with a stalled client and without, to a loop."""
    limits = Limits(message_size=2**20, backlog=2**26)  # bytes: it is not cut off
    create_patient = partial(create_step10, limits=limits)
    async with (
        connect(create_patient, 500) as stalled,
        connect(create_patient, 500) as ours,
        connect(create_plain_server, 500) as plain,
    ):
        connection = stalled[-1]._conn
        assert connection
        assert connection.transport
        connection.transport.pause_reading()
        for _ in range(80):  # the system takes some 4 MB, the rest is backlog
            await stalled[-1].send_str(LONG_ECHO)
        await stalled[-1].send_str(TO_ALL)  # when this has come, it is all dealt with
        for client in stalled[:-1]:
            await client.receive()
        await compare(
            "a broadcast to 500, one stalled, against none stalled",
            lambda: send(TO_ALL, stalled[:-1]),
            lambda: send(TO_ALL, ours[:-1]),
            limit=1.1,
        )
        await compare(
            "a broadcast of step 10 to 500, against a bare loop",
            lambda: send(TO_ALL, ours),
            lambda: send(TO_ALL, plain),
            limit=1.2,
        )


async def join_group(
    session: ClientSession, ports: list[int]
) -> tuple[list[ClientWebSocketResponse], str]:
    """Return a client for each of `ports`, and the group that all of them are in."""
    clients = [await session.ws_connect(f"ws://127.0.0.1:{port}") for port in ports]
    await clients[0].send_json(create("A"))
    group_id = (await clients[0].receive_json())["value"]["groupId"]
    for client in clients[1:]:
        await client.send_json(join(group_id))
        await client.receive()
    return clients, group_id


async def pass_on(session: ClientSession, ports: list[int]) -> float:
    """Return the milliseconds from a sender to another member, mostly."""
    (sender, member), group_id = await join_group(session, ports)
    times = []
    for _ in range(MESSAGES):
        began = time.perf_counter()
        await sender.send_json(message(group_id, TEXT))
        await member.receive()
        times.append(time.perf_counter() - began)
        await sender.receive()
    return statistics.median(times) * 1000


async def deliver(session: ClientSession, ports: list[int]) -> float:
    """Return the deliveries a second to 500 members, read by this process."""
    clients, group_id = await join_group(session, (ports * 500)[:500])

    async def listen(client: ClientWebSocketResponse) -> None:
        for _ in range(MESSAGES):
            await client.receive()

    began = time.perf_counter()
    for _ in range(MESSAGES):
        await clients[0].send_json(message(group_id, TEXT))
    await asyncio.gather(*map(listen, clients))
    rate = MESSAGES * 500 / (time.perf_counter() - began)
    for client in clients:
        await client.close()
    return rate


async def compare_processes() -> None:
    """Compare members on one process with members on two."""
    with ExitStack() as stack:
        url = f"nats://127.0.0.1:{stack.enter_context(start_broker()).port}"
        ports = [stack.enter_context(start_process(url)).port for _ in range(2)]
        async with ClientSession(connector=TCPConnector(limit=0)) as session:
            same = await pass_on(session, [ports[0], ports[0]])
            other = await pass_on(session, ports)
            what = "from sender to member on another process, against the same"
            report(what, other / same, 4)
            print(f"{'':58} {other:5.2f} and {same:.2f} milliseconds")
            for used in ports[:1], ports:
                rate = max([await deliver(session, used) for _ in range(3)])
                print(f"{len(used)} process(es): {rate:,.0f} deliveries a second")


def main() -> int:
    """Return 0 if every ratio keeps to its limit, 1 otherwise."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    for measure in (
        count_blocks_that_groups_leave,
        compare_bad_clients,
        compare_processes,
    ):
        asyncio.run(measure())
    return 1 if "TOO MUCH" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
