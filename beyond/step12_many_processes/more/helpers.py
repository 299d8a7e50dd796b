"""What the tests of brokers share."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from ..broker import Broker
from ..messages import join, leave, send, unavailable
from ..utils import TestWebSocket


@asynccontextmanager
async def connect(*brokers: Broker) -> AsyncIterator[None]:
    """Connect brokers; disconnect them at the end of the block."""
    async with AsyncExitStack() as stack:
        for broker in brokers:
            await broker.start()
            stack.push_async_callback(broker.stop)
        yield


async def find_no_group(client: TestWebSocket, group_id: str) -> None:
    """Join and leave a group until it no longer exists."""
    while unavailable(group_id) not in client.messages:
        await send(client, leave(group_id))
        client.clear_messages()
        await send(client, join(group_id))
    client.clear_messages()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until `is_so` returns true."""
    while not is_so():
        await asyncio.sleep(0.001)
