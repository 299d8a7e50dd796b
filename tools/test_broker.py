"""Check what step 12's tests meet too seldom: a client of NATS that has stopped."""

import asyncio
from importlib import import_module

NatsBroker = import_module("beyond.step12_many_processes.broker").NatsBroker
start_broker = import_module("beyond.step12_many_processes.processes").start_broker


async def test_no_client_that_has_stopped_reconnects() -> None:
    with start_broker() as nats:
        brokers = [NatsBroker(f"nats://127.0.0.1:{nats.port}") for _ in range(200)]
        await asyncio.gather(*[broker.start() for broker in brokers])

    async def stop(number: int) -> None:
        await asyncio.sleep(number / 1000)  # at any point of its attempts to reconnect
        await brokers[number].stop()

    await asyncio.gather(*map(stop, range(200)))
    reconnecting = [x for x in asyncio.all_tasks() if "_attempt_reconnect" in repr(x)]
    if reconnecting:
        _, endless = await asyncio.wait(reconnecting, timeout=5)
        assert not endless
