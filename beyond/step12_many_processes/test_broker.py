"""Integration tests of two servers with a broker between them."""

import pytest

from .messages import (
    TEXTS,
    create_group,
    create_socket_client,
    group_message,
    join,
    join_group,
    leave,
    message,
    send,
    unavailable,
)
from .server import PATH
from .utils import compute_port

pytestmark = pytest.mark.usefixtures("no_server_errors")
PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}{PATH}"


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


async def test_message_right_after_joining(url2: str) -> None:
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
