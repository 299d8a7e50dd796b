"""Integration tests of servers in their own processes."""

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from .messages import (
    create_group,
    create_socket_client,
    echo,
    group_message,
    join,
    join_group,
    message,
    send,
    unavailable,
)
from .more.processes import Process, start_process


@pytest.fixture
def processes(nats_url: str) -> Iterator[list[Process]]:
    """Start two servers."""
    with start_process(nats_url) as process1, start_process(nats_url) as process2:
        yield [process1, process2]


async def test_message_reaches_members_on_both_processes(
    processes: list[Process],
) -> None:
    url1, url2 = [process.url for process in processes]
    async with (
        create_socket_client(url1) as client1,
        create_socket_client(url2) as witness,
        create_socket_client(url2) as silent_client,
    ):
        group_id = await create_group(client1)
        await join_group(witness, group_id)

        for text in "first", "last":
            await client1.send_json(message(group_id, text))
        # When the witness has the message, their process has handled it; the silent
        # client's close frame comes later.
        await witness.wait_for_message(group_message(group_id, "last"))

    messages = [group_message(group_id, "first"), group_message(group_id, "last")]
    assert client1.messages == witness.messages == messages
    assert silent_client.messages == []


async def test_broadcast_reaches_clients_of_both_processes(
    processes: list[Process],
) -> None:
    url1, url2 = [process.url for process in processes]
    async with (
        create_socket_client(url1) as client1,
        create_socket_client(url2) as client2,
    ):
        for sender in client1, client2, client1:
            heard = len(client1.messages) + 1
            await sender.send_json({"type": "ECHO_TO_ALL", "value": "HI"})
            await client1.wait_for_message_count(heard)
            await client2.wait_for_message_count(heard)

    assert client1.messages == client2.messages == [echo("HI")] * 3


async def test_a_process_is_killed(processes: list[Process]) -> None:
    url1, url2 = [process.url for process in processes]
    async with create_socket_client(url2) as client2:
        with suppress(ConnectionError):  # no close frame
            async with create_socket_client(url1) as client1:
                lost_id = await create_group(client1)
                group_id = await create_group(client2)
                await join_group(client1, group_id)
                await client2.send_json(message(group_id, "before"))
                await client1.wait_for_message(group_message(group_id, "before"))
                processes[0].end(signal.SIGKILL)
        async with create_socket_client(url2) as client3:
            await send(client3, join(lost_id))
            new_id = await create_group(client3)
            await join_group(client2, new_id)
            await join_group(client3, group_id)
            for known_id in group_id, new_id:
                await send(client2, message(known_id, "after"))

    before = group_message(group_id, "before")
    after = [group_message(group_id, "after"), group_message(new_id, "after")]
    assert client1.messages == [before]
    assert client2.messages == [before, *after]
    assert client3.messages == [unavailable(lost_id), *after]
