"""Check what step 12's tests meet too seldom, and what its witness is for."""

import asyncio
from importlib import import_module
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

step = "beyond.step12_many_processes"
MemoryBroker: Any = import_module(f"{step}.broker").MemoryBroker
NatsBroker = import_module(f"{step}.broker").NatsBroker
start_broker = import_module(f"{step}.more.processes").start_broker
DEFAULT_LIMITS = import_module(f"{step}.connection").DEFAULT_LIMITS
Server = import_module(f"{step}.server").Server
deliver = import_module(f"{step}.server").deliver
messages = import_module(f"{step}.messages")
utils = import_module(f"{step}.utils")


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


class SlowBroker(MemoryBroker):  # type: ignore[misc]
    """A broker that takes 50 ms, as one far away, or a busy one, may do."""

    async def publish(self, subject: str, message: str) -> None:
        """Send a message later."""
        asyncio.get_running_loop().call_later(0.05, self.send, subject, message)

    def send(self, subject: str, message: str) -> None:
        """Send it."""
        self.sending = asyncio.create_task(super().publish(subject, message))


async def start_servers(aiohttp_server: AiohttpServer, wrong: bool) -> list[str]:
    """Start two servers; wrong ones give what the broker brings to all clients."""
    peers: list[Any] = []
    urls = []
    for _ in range(2):
        server = Server(DEFAULT_LIMITS, SlowBroker(peers))
        if wrong:
            server.groups.deliver = lambda _, data, s=server: deliver(s.clients, data)
        app = web.Application()
        app.cleanup_ctx.append(server.run_broker)
        app.router.add_get("/", server.handle_connection)
        test_server = await utils.start_server(aiohttp_server, app, 0)
        urls.append(str(test_server.make_url("/")))
    return urls


@pytest.mark.parametrize("has_witness", [True, False])
@pytest.mark.parametrize("wrong", [True, False])
async def test_only_a_witness_notices_messages_to_outsiders(
    aiohttp_server: AiohttpServer, wrong: bool, has_witness: bool
) -> None:
    url1, url2 = await start_servers(aiohttp_server, wrong)
    group_message = messages.group_message

    for _ in range(5):
        async with (
            messages.create_socket_client(url1) as client1,
            messages.create_socket_client(url2) as witness,
            messages.create_socket_client(url2) as silent_client,
        ):
            group_id = await messages.create_group(client1)
            await messages.join_group(witness, group_id)
            await messages.send(client1, messages.message(group_id))
            if has_witness:
                await witness.wait_for_message(group_message(group_id))

        heard = [group_message(group_id)] if wrong and has_witness else []
        assert silent_client.messages == heard
