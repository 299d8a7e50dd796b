"""More tests of two servers with a broker between them."""

import asyncio
import logging

import pytest

from ..broker import Deliver, MemoryBroker, NatsBroker, UnavailableError
from ..conftest import BrokerFactory, StartTwo
from ..messages import (
    LONG,
    LONG_TEXTS,
    TEXTS,
    URL,
    create_group,
    create_socket_client,
    cut_off,
    echo,
    group_left,
    group_message,
    join,
    join_group,
    leave,
    message,
    resume_reading,
    send,
    stop_reading,
    to_all,
    unavailable,
)
from ..shared_groups import SharedGroups
from ..utils import bounded
from .helpers import connect, find_no_group

pytestmark = pytest.mark.usefixtures("no_server_errors")
BAD_IDS = ["", "*", ">", "a.b", "x" * 42, "*" * 43, "x" * 43 + "\n", "x " * 21 + "x"]


async def drop(_members: set[str], _data: bytes) -> None:
    """Deliver nothing."""


async def test_publish_to_others_in_order(new_broker: BrokerFactory) -> None:
    brokers = [new_broker(), new_broker(), new_broker()]
    heard: list[asyncio.Queue[bytes]] = [asyncio.Queue() for _ in brokers]
    async with connect(*brokers):
        for broker, queue in zip(brokers, heard, strict=True):
            await broker.subscribe("A", queue.put)
        await brokers[2].unsubscribe("A")

        await brokers[2].publish("A", "first")
        assert await bounded(heard[0].get(), "the first message") == b"first"
        for text in TEXTS:
            await brokers[0].publish("A", text)
        await brokers[0].publish("B", "elsewhere")

        texts = ["first", *TEXTS]
        messages = [await bounded(heard[1].get(), "the next message") for _ in texts]

    assert messages == [text.encode() for text in texts]
    assert [queue.qsize() for queue in heard] == [0, 0, 0]


async def test_ask_who_has_subscribed(new_broker: BrokerFactory) -> None:
    broker1, broker2 = new_broker(), new_broker()
    async with connect(broker1, broker2):
        for name in TEXTS:
            await broker1.subscribe("A", asyncio.Queue[bytes]().put, name)
            assert await broker2.ask("A") == name
            with pytest.raises(UnavailableError):
                await broker1.ask("A")  # nobody else has
            await broker1.unsubscribe("A")
            with pytest.raises(UnavailableError):  # at once
                await bounded(broker2.ask("A"), "the news that nobody has", timeout=0.4)


@pytest.mark.parametrize("way", ["leaves it", "leaves", "vanishes"])
async def test_group_ends_everywhere_with_its_last_member(url2: str, way: str) -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        async with create_socket_client(url2) as client3:
            group_ids = [await create_group(client3) for _ in range(3)]
            for group_id in group_ids:
                await join_group(client1, group_id)
            await send(client1, leave(group_ids[0]))
            await send(client1, leave(group_ids[1]))
            if way == "leaves it":
                for group_id in group_ids:
                    await send(client3, leave(group_id))
            elif way == "vanishes":
                cut_off(client3)
                await client3.wait_for_close(1006)
        client1.clear_messages()
        # The other process ends its subscription a moment later.
        for group_id in group_ids[:2]:
            gone = find_no_group(client2, group_id)
            await bounded(gone, "the group to end at the other process")
        await join_group(client2, group_ids[2])
        await send(client2, message(group_ids[2], "alone"))

    alone = group_message(group_ids[2], "alone")
    assert client1.messages == client2.messages == [alone]


async def test_members_who_join_at_once_hear_a_message_once(url2: str) -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(url2) as client2,
        create_socket_client(url2) as client3,
    ):
        group_id = await create_group(client1)
        for client in client2, client3:
            await client.send_json(join(group_id))
        for client in client2, client3:
            await client.settle()
            client.clear_messages()

        for count, sender in enumerate([client1, client2, client3, client1], 1):
            await sender.send_json(message(group_id))
            for client in client1, client2, client3:
                await client.wait_for_message_count(count)

    messages = [group_message(group_id)] * 4
    assert client1.messages == client2.messages == client3.messages == messages


async def test_join_while_the_last_member_leaves(
    start_two: StartTwo, new_broker: BrokerFactory
) -> None:
    await start_two(new_broker(), new_broker())
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        for _ in range(50):
            group_id = await create_group(client1)
            await client1.send_json(leave(group_id))
            await client2.send_json(join(group_id))
            await client1.settle()
            await client2.settle()
            reply = client2.messages.pop()
            await send(client2, message(group_id))
            is_member = reply["type"] == "GROUP_JOINED"
            last = group_message(group_id) if is_member else unavailable(group_id)
            assert client2.messages.pop() == last
            await send(client2, leave(group_id))


class SlowBroker(MemoryBroker):
    """A broker that takes a moment to start and to end a subscription."""

    async def subscribe(self, subject: str, deliver: Deliver, answer: str = "") -> None:
        """Start a subscription, 50 ms later."""
        await asyncio.sleep(0.05)
        await super().subscribe(subject, deliver, answer)

    async def unsubscribe(self, subject: str) -> None:
        """End a subscription, 50 ms later."""
        await asyncio.sleep(0.05)
        await super().unsubscribe(subject)


async def test_group_has_ended_when_its_last_member_hears_that_it_left(
    start_two: StartTwo,
) -> None:
    peers: list[MemoryBroker] = []
    url2 = await start_two(SlowBroker(peers), SlowBroker(peers))
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(url2) as client2,
    ):
        group_id = await create_group(client1)
        await client1.send_json(leave(group_id))
        await client1.wait_for_message(group_left(group_id))
        await send(client2, join(group_id))

    assert client2.messages == [unavailable(group_id)]


async def test_clients_hear_that_they_joined_when_messages_come(
    start_two: StartTwo,
) -> None:
    peers: list[MemoryBroker] = []
    url2 = await start_two(SlowBroker(peers), SlowBroker(peers))
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(url2) as client2,
        create_socket_client(url2) as client3,
    ):
        group_id = await create_group(client1)
        await client2.send_json(join(group_id))
        await client3.settle()  # by now, its server is about to subscribe
        await client3.send_json(join(group_id))
        await client3.wait_for_message_count(1)
        await send(client1, message(group_id))

    joined = {"groupId": group_id, "groupName": "A"}
    for client in client2, client3:
        confirmation = {"type": "GROUP_JOINED", "value": joined}
        assert client.messages == [confirmation, group_message(group_id)]


async def visit(groups: SharedGroups[str], client: str, group_id: str) -> bool:
    """Join a group of another process, and leave it at once."""
    if is_there := await groups.find(group_id):
        groups.join(client, group_id)
        groups.leave(client, group_id)
    return is_there


async def test_clients_that_share_a_search(new_broker: BrokerFactory) -> None:
    broker1, broker2 = new_broker(), new_broker()
    async with connect(broker1, broker2):
        groups1, groups2 = [SharedGroups[str](0, it, drop) for it in (broker1, broker2)]
        group_id = await groups1.share("host", "A")

        visits = [asyncio.create_task(visit(groups2, it, group_id)) for it in "123"]
        await asyncio.sleep(0)  # now all of them search
        visits[0].cancel()  # for example, because its server stops
        visitors = asyncio.gather(*visits[1:])
        assert await bounded(visitors, "the others") == [True, True]
        await groups2.settle()
        groups1.leave("host", group_id)
        await groups1.settle()
        assert not await visit(groups2, "late", group_id)


async def test_client_that_has_no_room_keeps_no_group(
    start_two: StartTwo, new_broker: BrokerFactory
) -> None:
    url2 = await start_two(new_broker(), new_broker(), groups=1)
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(url2) as client2,
    ):
        for _ in range(2):
            group_id = await create_group(client1)
            own_id = await create_group(client2)
            await send(client2, join(group_id))
            await send(client1, leave(group_id))
            await send(client1, join(group_id))
            assert client2.messages == [unavailable(group_id)]
            assert client1.messages == [group_left(group_id), unavailable(group_id)]
            await send(client2, leave(own_id))
            client1.clear_messages()
            client2.clear_messages()


async def test_client_of_another_server_that_reads_nothing_is_cut_off(
    start_two: StartTwo, new_broker: BrokerFactory
) -> None:
    url2 = await start_two(new_broker(), new_broker(), message_size=LONG, backlog=2**16)
    async with (
        create_socket_client(url2) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as bad_client,
    ):
        stop_reading(bad_client)
        for text in LONG_TEXTS:
            await client1.send_json(to_all(text))
            await client2.wait_for_message(echo(text))
        resume_reading(bad_client)
        await bad_client.wait_for_close(1006)

    assert client2.messages == [echo(text) for text in LONG_TEXTS]
    assert len(bad_client.messages) < len(LONG_TEXTS)


async def test_broadcast_to_clients_of_both_servers(url2: str) -> None:
    """Two clients are on each server; all four hear each broadcast."""
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(url2) as client3,
        create_socket_client(url2) as client4,
    ):
        for text in TEXTS:
            await send(client1, to_all(text))
        await client4.wait_for_message_count(len(TEXTS))
        await send(client4, to_all("back"))
        await client1.wait_for_message(echo("back"))

    assert client1.messages == [*map(echo, TEXTS), echo("back")]
    assert client1.messages == client2.messages == client3.messages == client4.messages


async def test_bad_group_ids(url2: str, new_broker: BrokerFactory) -> None:
    stranger = new_broker()
    async with (
        connect(stranger),
        create_socket_client(URL) as client1,
        create_socket_client(url2) as client2,
    ):
        # NATS would find this subscription for any id.
        await stranger.subscribe("groups.>", asyncio.Queue[bytes]().put, "a bad group")
        group_id = await create_group(client1)
        bad_ids = [*BAD_IDS, f"{group_id}\n", f"{group_id}.x", f" {group_id}"]
        for bad_id in bad_ids:
            for request in join, leave, message:
                await send(client2, request(bad_id))
        await send(client1, message(group_id))

    assert client1.messages == [group_message(group_id)]
    assert client2.messages == [
        unavailable(bad_id) for bad_id in bad_ids for _ in "JLM"
    ]


async def test_what_is_not_a_message_is_dropped(
    url2: str, new_broker: BrokerFactory, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = new_broker()
    async with (
        connect(stranger),
        create_socket_client(URL) as client1,
        create_socket_client(url2) as client2,
    ):
        group_id = await create_group(client1)
        await join_group(client2, group_id)

        for subject in "all", f"groups.{group_id}":
            for text in "", "no JSON", "[]", '{"type": 1, "value": "HI"}':
                await stranger.publish(subject, text)
            await stranger.publish(subject, '{"type": "ECHO", "value": "HI"}')
            for client in client1, client2:
                await client.wait_for_message(echo("HI"))
                client.messages.remove(echo("HI"))

    assert client1.messages == client2.messages == []
    problems = [it for it in caplog.records if it.levelno == logging.WARNING]
    assert len(problems) == 16


async def test_message_too_large_for_the_broker(
    start_two: StartTwo, nats_url: str
) -> None:
    broker1, broker2 = NatsBroker(nats_url), NatsBroker(nats_url)
    url2 = await start_two(broker1, broker2, message_size=2**21)
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(url2) as client2,
    ):
        group_id = await create_group(client1)
        await join_group(client2, group_id)

        for text in "x" * 1_048_576, "HI":  # NATS carries at most a mebibyte
            await send(client1, message(group_id, text))
        await client2.wait_for_message(group_message(group_id))

    assert client1.messages == [unavailable(group_id), group_message(group_id)]
    assert client2.messages == [group_message(group_id)]


async def test_group_lives_while_it_has_a_member_anywhere(url2: str) -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(url2) as client2,
        create_socket_client(url2) as client3,
    ):
        group_id = await create_group(client1)
        for _ in range(3):
            await join_group(client2, group_id)
            await join_group(client3, group_id)
            await send(client1, leave(group_id))
            await join_group(client1, group_id)
            await send(client2, leave(group_id))
            await client1.send_json(message(group_id))
            await client3.wait_for_message(group_message(group_id))
            client3.clear_messages()
            await send(client3, leave(group_id))
        await send(client1, leave(group_id))
        client1.clear_messages()
        client2.clear_messages()

        await send(client2, join(group_id))
        await send(client1, join(group_id))

    assert client1.messages == [unavailable(group_id)]
    assert client2.messages == [unavailable(group_id)]


async def test_members_on_two_servers(url2: str) -> None:
    """Two members on each server hear each message once; an outsider hears none."""
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(url2) as client3,
        create_socket_client(url2) as client4,
        create_socket_client(url2) as silent_client,
    ):
        group_id = await create_group(client1, "Übung")
        await join_group(client3, group_id, "Übung")
        await join_group(client2, group_id, "Übung")
        await join_group(client4, group_id, "Übung")
        await join_group(client4, group_id, "Übung")

        members = client1, client2, client3, client4
        for text in TEXTS:
            for sender in members:
                await send(sender, message(group_id, text))
                for member in members:
                    await member.wait_for_message_count(len(sender.messages))
        await send(silent_client, message(group_id, "from outside"))

    messages = [group_message(group_id, text) for text in TEXTS for _ in range(4)]
    assert (
        messages
        == client1.messages
        == client2.messages
        == client3.messages
        == client4.messages
    )
    assert silent_client.messages == [unavailable(group_id)]
