"""Integration tests of groups, whose ids the server makes."""

import re

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from .conftest import Options
from .messages import (
    URL,
    create_group,
    create_socket_client,
    cut_off,
    group_message,
    join,
    join_group,
    leave,
    message,
    send,
    unavailable,
)
from .server import PATH, create_websocket_server
from .utils import start_server

pytestmark = pytest.mark.usefixtures("server")


async def test_given_message_group_server_sends_it_to_members_once_only() -> None:
    # Create test clients
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
    ):
        group_id = await create_group(client1)
        await join_group(client2, group_id)

        # Send client message
        await client2.send_json(message(group_id))
        await client1.wait_for_message(group_message(group_id))
        await client2.wait_for_message(group_message(group_id))

    # Perform assertions on the responses
    assert client1.messages == [group_message(group_id)]
    assert client2.messages == [group_message(group_id)]
    assert client3.messages == []


async def test_group_ids_are_distinct_and_hard_to_guess(
    aiohttp_server: AiohttpServer, unlimited: Options
) -> None:
    other_app = web.Application()
    create_websocket_server(other_app, **unlimited)
    other_server = await start_server(aiohttp_server, other_app, 0)
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(other_server.make_url(PATH)) as client3,
    ):
        clients = [client1, client2, client3] * 20
        names = ["A", "A", "B", "", "x" * 126, " <Å> "] * 10
        group_ids = [
            await create_group(client, name)
            for client, name in zip(clients, names, strict=True)
        ]

    # 128 bits need at least 22 characters. Ids that are counted begin or end alike.
    assert all(re.fullmatch(r"[\w-]{22,}", group_id) for group_id in group_ids)
    assert len({group_id[:8] for group_id in group_ids}) == len(group_ids)
    assert len({group_id[-8:] for group_id in group_ids}) == len(group_ids)


@pytest.mark.parametrize("way", ["leaves it", "leaves", "vanishes"])
async def test_group_without_members_is_deleted(way: str) -> None:
    async with create_socket_client(URL) as client1:
        async with create_socket_client(URL) as client2:
            lasting = await create_group(client2, "lasting")
            await join_group(client1, lasting, "lasting")
            group_id = await create_group(client1)
            await join_group(client2, group_id)
            await send(client1, leave(group_id))
            await join_group(client1, group_id)  # it has a member, so it exists
            await send(client1, leave(group_id))
            if way == "leaves it":
                await send(client2, leave(group_id))
            elif way == "vanishes":
                cut_off(client2)
                await client2.wait_for_close(1006)

        client1.clear_messages()
        for request in join, leave, message:
            await send(client1, request(group_id))
        await send(client1, message(lasting, "alone"))

    assert client1.messages == [
        *[unavailable(group_id)] * 3,
        group_message(lasting, "alone"),
    ]
