"""Tests of two servers whose broker is away, stuck, or slow."""

import asyncio
import secrets
import signal
from contextlib import AsyncExitStack

import pytest

from ..broker import NatsBroker, UnavailableError
from ..conftest import StartTwo
from ..messages import (
    URL,
    create,
    create_group,
    create_socket_client,
    echo,
    group_left,
    group_message,
    join,
    join_group,
    leave,
    message,
    send,
    to_all,
    unavailable,
)
from ..utils import TIMEOUT, bounded
from .helpers import connect, find_no_group, until
from .processes import start_broker

pytestmark = pytest.mark.usefixtures("no_server_errors")


@pytest.mark.parametrize(
    "signal_number", [signal.SIGKILL, signal.SIGSTOP], ids=["away", "stuck"]
)
async def test_broker_is_missing_at_the_start(signal_number: int) -> None:
    with start_broker() as nats:
        broker = NatsBroker(f"nats://127.0.0.1:{nats.port}")
        nats.send_signal(signal_number)
        with pytest.raises(UnavailableError, match="no broker at"):
            await bounded(broker.start(), "an error", 2 * TIMEOUT)
        assert broker.client.is_closed  # it has stopped trying


async def test_broker_is_stuck(
    start_two: StartTwo, caplog: pytest.LogCaptureFixture
) -> None:
    with start_broker() as nats:
        broker1, broker2 = [NatsBroker(f"nats://127.0.0.1:{nats.port}") for _ in "12"]
        url2 = await start_two(broker1, broker2)
        async with (
            create_socket_client(URL) as client1,
            create_socket_client(url2) as client2,
        ):
            group_id, left_id = [await create_group(client1) for _ in "AB"]
            await join_group(client2, group_id)
            unknown_id = secrets.token_urlsafe()

            nats.send_signal(signal.SIGSTOP)
            for request in create("C"), join(unknown_id), leave(left_id):
                await send(client1, request)
            await send(client1, message(group_id))
            nats.send_signal(signal.SIGCONT)
            await client2.wait_for_message(group_message(group_id))

    assert client1.messages == [
        unavailable("C"),
        unavailable(unknown_id),
        group_left(left_id),
        group_message(group_id),
    ]
    assert client2.messages == [group_message(group_id)]
    assert "lost" not in caplog.text


async def test_clients_that_join_while_the_broker_is_stuck(
    start_two: StartTwo,
) -> None:
    """Twenty clients are refused while the broker is stuck; later they can join."""
    with start_broker() as nats:
        broker1, broker2 = [NatsBroker(f"nats://127.0.0.1:{nats.port}") for _ in "12"]
        url2 = await start_two(broker1, broker2)
        async with create_socket_client(URL) as client1, AsyncExitStack() as stack:
            connecting = [create_socket_client(url2) for _ in range(20)]
            clients = [await stack.enter_async_context(it) for it in connecting]
            group_id = await create_group(client1)

            nats.send_signal(signal.SIGSTOP)
            for client in clients:
                await client.send_json(join(group_id))
            # It takes half a second for all of them, not for each.
            no = unavailable(group_id)
            await asyncio.gather(*[client.wait_for_message(no) for client in clients])
            for client in clients:
                client.clear_messages()
            nats.send_signal(signal.SIGCONT)
            for client in clients:
                await join_group(client, group_id)
            await send(client1, message(group_id))
            for client in clients:
                await client.wait_for_message(group_message(group_id))

    for client in client1, *clients:
        assert client.messages == [group_message(group_id)]


async def test_broker_that_reads_nothing(
    start_two: StartTwo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{NatsBroker.__module__}.BACKLOG", 2**22)
    with start_broker() as nats:
        broker1, broker2 = [NatsBroker(f"nats://127.0.0.1:{nats.port}") for _ in "12"]
        url2 = await start_two(broker1, broker2, backlog=2**25)
        async with (
            create_socket_client(URL) as client1,
            create_socket_client(url2) as client2,
        ):
            group_id = await create_group(client1)
            await join_group(client2, group_id)

            nats.send_signal(signal.SIGSTOP)
            texts = [f"{number} {'x' * 500_000}" for number in range(40)]
            for text in texts:
                await send(client1, message(group_id, text))
            await send(client1, create("B"))
            await send(client1, to_all("whoever is here"))
            heard = client1.messages.copy()
            nats.send_signal(signal.SIGCONT)
            refused_count = heard.count(unavailable(group_id))
            texts, refused = texts[:-refused_count], texts[-refused_count:]
            for count in range(1, len(texts) + 1):
                await client2.wait_for_message_count(count)
            client1.clear_messages()
            await send(client1, message(group_id, "after"))
            await client2.wait_for_message(group_message(group_id, "after"))

    told = [group_message(group_id, text) for text in texts]
    refusals = [*[unavailable(group_id)] * len(refused), unavailable("B")]
    after = group_message(group_id, "after")
    assert told
    assert heard == [*told, *refusals, echo("whoever is here")]
    assert client1.messages == [after]
    assert client2.messages == [*told, after]


async def test_subscriptions_end_while_the_broker_reads_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{NatsBroker.__module__}.BACKLOG", 2**22)
    subjects = [f"{number}" for number in range(1100)]
    with start_broker() as nats:
        broker = NatsBroker(f"nats://127.0.0.1:{nats.port}")
        async with connect(broker):
            for subject in subjects:
                await broker.subscribe(subject, asyncio.Queue[bytes]().put)
            nats.send_signal(signal.SIGSTOP)
            with pytest.raises(UnavailableError):
                for _ in range(100):
                    await broker.publish("A", "x" * 500_000)
                    await asyncio.sleep(0)  # let nats-py send it

            ending = [broker.unsubscribe(subject) for subject in subjects]
            await bounded(asyncio.gather(*ending), "the subscriptions to end")
            nats.send_signal(signal.SIGCONT)
            await broker.settle()


def find_handlers() -> set[asyncio.Task[object]]:
    """Return the tasks that handle connections."""
    return {task for task in asyncio.all_tasks() if "RequestHandler" in repr(task)}


async def test_member_of_many_groups_goes_while_the_broker_is_stuck(
    start_two: StartTwo,
) -> None:
    with start_broker() as nats:
        broker1, broker2 = [NatsBroker(f"nats://127.0.0.1:{nats.port}") for _ in "12"]
        url2 = await start_two(broker1, broker2)
        async with create_socket_client(url2) as client1:
            handlers = find_handlers()
            async with create_socket_client(URL) as client2:
                group_ids = [await create_group(client2) for _ in range(60)]
                handlers = find_handlers() - handlers
                nats.send_signal(signal.SIGSTOP)
            await bounded(asyncio.wait(handlers), "the end of the client's handler")

            nats.send_signal(signal.SIGCONT)
            for group_id in group_ids:
                gone = find_no_group(client1, group_id)
                await bounded(gone, "the group to end at the other process")

    assert client1.messages == []


async def test_messages_that_are_lost_are_counted(
    start_two: StartTwo,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(f"{NatsBroker.__module__}.PING_INTERVAL", 0.2)
    with start_broker() as nats:
        broker1, broker2 = [NatsBroker(f"nats://127.0.0.1:{nats.port}") for _ in "12"]
        url2 = await start_two(broker1, broker2)
        async with (
            create_socket_client(URL) as client1,
            create_socket_client(url2) as client2,
        ):
            group_id = await create_group(client1)
            await join_group(client2, group_id)
            for text in "first", "second":
                await send(client1, message(group_id, text))
                await client2.wait_for_message(group_message(group_id, text))
            confirmed = until(lambda: not broker1.unconfirmed)
            await bounded(confirmed, "the broker to answer")

            nats.send_signal(signal.SIGSTOP)
            for _ in range(3):
                await send(client1, message(group_id, "lost"))
            away = until(lambda: caplog.text.count("is away") == 2)
            await bounded(away, "the servers to give up on the broker", 2 * TIMEOUT)
            await send(client1, message(group_id, "refused"))
            nats.send_signal(signal.SIGCONT)
            back = until(lambda: caplog.text.count("is back") == 2)
            await bounded(back, "the servers to connect again", 2 * TIMEOUT)
            await send(client1, message(group_id, "last"))
            await client2.wait_for_message(group_message(group_id, "last"))

    texts = ["first", "second", "lost", "lost", "lost"]
    told = [group_message(group_id, text) for text in texts]
    last = group_message(group_id, "last")
    assert client1.messages == [*told, unavailable(group_id), last]
    assert client2.messages == [*told[:2], last]
    lost = [it.getMessage() for it in caplog.records if "lost" in it.getMessage()]
    assert lost == ["3 message(s) may be lost for other processes"]


async def test_subscription_that_a_stuck_broker_refused() -> None:
    with start_broker() as nats:
        broker1, broker2 = [NatsBroker(f"nats://127.0.0.1:{nats.port}") for _ in "12"]
        async with connect(broker1, broker2):
            nats.send_signal(signal.SIGSTOP)
            subscribing = broker1.subscribe("A", asyncio.Queue[bytes]().put)
            with pytest.raises(UnavailableError):
                await bounded(subscribing, "an error")
            nats.send_signal(signal.SIGCONT)
            await broker1.settle()

            with pytest.raises(UnavailableError):  # the subscription was taken back
                await bounded(broker2.ask("A"), "the news that nobody has")


class CountingBroker(NatsBroker):
    """A broker that counts its attempts to reconnect."""

    def __init__(self, url: str) -> None:
        """Take the address."""
        super().__init__(url)
        self.attempts = asyncio.Semaphore(0)

    async def on_error(self, _: Exception) -> None:
        """Count an attempt that failed."""
        self.attempts.release()


async def test_broker_is_away_for_long() -> None:
    with start_broker() as nats:
        broker = CountingBroker(f"nats://127.0.0.1:{nats.port}")
        await broker.start()
    broker.client.options["reconnect_time_wait"] = 0  # or this would take 10 seconds
    for _ in range(100):  # by default, nats-py gives up after 60
        await bounded(broker.attempts.acquire(), "another attempt to reconnect")
    await broker.stop()


async def test_clients_of_a_broker_that_is_away_stop() -> None:
    with start_broker() as nats:
        brokers = [NatsBroker(f"nats://127.0.0.1:{nats.port}") for _ in range(100)]
        await asyncio.gather(*[broker.start() for broker in brokers])
    stopping = []
    for broker in brokers:  # each is at another point of its first attempt
        stopping.append(asyncio.create_task(broker.stop()))
        await asyncio.sleep(0)
    await bounded(asyncio.gather(*stopping), "all of them to stop")
