"""Send 100,000 messages over two processes; all hear all, in each sender's order.

Run from the top of the project: `PYTHONPATH=beyond python -m tools.order`
"""

import asyncio
import sys
import time
from collections import Counter, defaultdict
from contextlib import ExitStack

from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector
from step12_many_processes.processes import start_broker, start_process
from step12_many_processes.talk import join, message

SENDERS, MEMBERS, MESSAGES = 10, 50, 10_000  # messages of each sender
AHEAD = 50  # messages that a sender is ahead of what it has heard of its own


async def connect(session: ClientSession, port: int) -> ClientWebSocketResponse:
    """Connect a client."""
    return await session.ws_connect(f"ws://127.0.0.1:{port}")


async def send(
    sender: ClientWebSocketResponse, number: int, group_id: str, own: asyncio.Semaphore
) -> None:
    """Send messages, not far ahead of what comes back: nobody shall fall behind."""
    for count in range(MESSAGES):
        await own.acquire()
        await sender.send_json(message(group_id, f"{number} {count}"))


async def listen(
    client: ClientWebSocketResponse, number: int, own: asyncio.Semaphore
) -> bool:
    """Tell whether a client hears all messages of every sender, in order, once."""
    next_counts: dict[int, int] = defaultdict(int)
    for _ in range(SENDERS * MESSAGES):
        text = (await client.receive_json())["value"]["groupMessage"]
        sender, count = map(int, text.split())
        if count != next_counts[sender]:
            return False
        next_counts[sender] += 1
        if sender == number:
            own.release()
    await client.send_json({"type": "ECHO", "value": "fence"})
    return bool((await client.receive_json())["value"] == "fence")


async def converse(ports: list[int]) -> Counter[bool]:
    """Return how many clients hear all in order, and how many do not."""
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        count = SENDERS + MEMBERS
        clients = [await connect(session, ports[n % 2]) for n in range(count)]
        await clients[0].send_json({"type": "CREATE_GROUP", "value": "A"})
        group_id = (await clients[0].receive_json())["value"]["groupId"]
        for client in clients[1:]:
            await client.send_json(join(group_id))
            await client.receive_json()
        own = [asyncio.Semaphore(AHEAD) for _ in clients]
        listening = asyncio.gather(
            *[listen(client, n, own[n]) for n, client in enumerate(clients)]
        )
        sending = asyncio.gather(
            *[send(clients[n], n, group_id, own[n]) for n in range(SENDERS)]
        )
        heard = Counter(await listening)
        sending.cancel()
        return heard


def main() -> int:
    """Return 0 if everybody hears everything in order."""
    with ExitStack() as stack:
        url = f"nats://127.0.0.1:{stack.enter_context(start_broker()).port}"
        ports = [stack.enter_context(start_process(url)).port for _ in range(2)]
        began = time.perf_counter()
        heard = asyncio.run(converse(ports))
    print(
        f"{heard[True]} of {heard.total()} clients heard {SENDERS * MESSAGES:,}"
        f" messages in each sender's order, in {time.perf_counter() - began:.0f} s"
    )
    return 0 if heard.total() == heard[True] else 1


if __name__ == "__main__":
    sys.exit(main())
