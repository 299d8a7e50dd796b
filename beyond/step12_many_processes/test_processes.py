"""Integration tests of two servers with a broker between them."""

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from .messages import (
    URL,
    create_group,
    create_socket_client,
    group_message,
    join,
    join_group,
    message,
    send,
    unavailable,
)
from .more.processes import Process, start_process


async def test_message_right_after_joining(no_server_errors: None, url2: str) -> None:
    """Two servers in one process: with brokers in memory, and with NATS."""
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(url2) as client2,
    ):
        group_ids = [await create_group(client1) for _ in range(100)]
        for count, group_id in enumerate(group_ids, 1):
            await client2.send_json(join(group_id))
            await client2.wait_for_message_count(count)
            await client1.send_json(message(group_id))
            client2.messages.pop()
            await client2.wait_for_message_count(count)

    assert client1.messages == [group_message(group_id) for group_id in group_ids]
    assert client2.messages == client1.messages


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


async def test_a_process_is_killed(processes: list[Process]) -> None:
    url1, url2 = [process.url for process in processes]
    async with create_socket_client(url2) as client2:
        with suppress(ConnectionError):  # no close frame
            async with create_socket_client(url1) as client1:
                lost_id = await create_group(client1)
                group_id = await create_group(client2)
                await join_group(client1, group_id)
                processes[0].end(signal.SIGKILL)
        await send(client2, join(lost_id))
        await send(client2, message(group_id))

    assert client2.messages == [unavailable(lost_id), group_message(group_id)]
