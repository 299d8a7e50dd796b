"""Tests of the server beside this file."""

import asyncio

import pytest
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer
from stored_by_tasks import create_app

from .utils import bounded, compute_port, create_socket_client, start_server

PORT = compute_port()
URL = f"ws://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await start_server(aiohttp_server, create_app(), PORT)


async def test_only_the_one_who_asks_hears_it_once() -> None:
    async with (
        create_socket_client(URL) as client,
        create_socket_client(URL) as other_client,
    ):
        before = asyncio.all_tasks()

        async def end_of_tasks() -> None:
            while tasks := asyncio.all_tasks() - before:
                await asyncio.wait(tasks)

        await client.send_str("milk")
        await client.settle()  # the handler has started its task
        await bounded(end_of_tasks(), "the server's tasks to end")

    assert client.messages == ["stored milk"]
    assert other_client.messages == []
