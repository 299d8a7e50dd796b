"""Tests of what happens as time passes, with the limits of production.

looptime controls the event loop's clock: when nothing is ready to run, the clock jumps
to the next timer. An hour takes milliseconds; the sockets are real.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import WSCloseCode, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .connection import DEFAULT_LIMITS, Limits
from .messages import (
    LONG,
    LONG_TEXTS,
    PORT,
    URL,
    create_group,
    create_socket_client,
    cut_off,
    echo,
    group_message,
    join,
    join_group,
    leave,
    message,
    resume_reading,
    send,
    stop_reading,
    unavailable,
)
from .server import PATH, create_websocket_server
from .utils import SocketState, TestWebSocket, start_server

Go = Callable[[TestWebSocket], Awaitable[None]]
MINUTE, HOUR = 60, 3600  # seconds


@pytest.fixture(autouse=True)
async def server(
    virtual_time: None, no_server_errors: None, aiohttp_server: AiohttpServer
) -> TestServer:
    """Give every test a fresh server, with the limits of production."""
    app = web.Application()
    create_websocket_server(app)
    options = {"keepalive_timeout": DEFAULT_LIMITS.heartbeat}
    return await start_server(aiohttp_server, app, PORT, **options)


async def test_nobody_else_hears_an_echo_for_an_hour() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
    ):
        await client1.send_json(echo())
        await asyncio.sleep(HOUR)
        assert client1.messages == [echo()]
        assert client2.messages == []


async def test_nobody_else_hears_a_message_to_a_group_for_an_hour() -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
    ):
        group_id = await create_group(client1)
        await join_group(client2, group_id)

        await client2.send_json(message(group_id))
        await asyncio.sleep(HOUR)
        assert client1.messages == [group_message(group_id)]
        assert client2.messages == [group_message(group_id)]
        assert client3.messages == []


async def test_dead_client_is_cut_off_in_time() -> None:
    async with (
        create_socket_client(URL) as client,
        create_socket_client(URL, autoping=False) as dead_client,
    ):
        await asyncio.sleep(1.5 * DEFAULT_LIMITS.heartbeat - 1)
        await dead_client.wait_until(SocketState.OPEN)
        await asyncio.sleep(2)
        await dead_client.wait_for_close(WSCloseCode.ABNORMAL_CLOSURE)
        await send(client, echo())

    assert client.messages == [echo()]


async def test_handshake_that_never_ends_is_cut_off_in_time() -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), DEFAULT_LIMITS.heartbeat - 1)
    assert await asyncio.wait_for(reader.read(1), 2) == b""

    writer.close()
    await writer.wait_closed()


async def test_slow_client_says_goodbye_and_reads_the_rest(
    aiohttp_server: AiohttpServer,
) -> None:
    app = web.Application()
    create_websocket_server(app, Limits(message_size=LONG, backlog=2**24))
    url = (await start_server(aiohttp_server, app, 0)).make_url(PATH)

    async with create_socket_client(url) as slow_client:
        stop_reading(slow_client)
        for text in LONG_TEXTS[:60]:
            await slow_client.send_json(echo(text))
        await slow_client.send_close()
        await asyncio.sleep(0.1)  # until the server has answered all of this
        resume_reading(slow_client)
    await asyncio.sleep(HOUR)  # its timers run out, and it logs no error

    assert slow_client.messages == [echo(text) for text in LONG_TEXTS[:60]]


async def test_client_that_says_too_much_is_closed() -> None:
    async with (
        create_socket_client(URL) as client,
        create_socket_client(URL) as bad_client,
    ):
        for _ in range(DEFAULT_LIMITS.messages):
            await bad_client.send_json(echo())
        await bad_client.settle()
        await bad_client.send_json(echo("one too many"))
        await bad_client.wait_for_close(WSCloseCode.POLICY_VIOLATION)
        await send(client, echo())

    assert "too many messages" in bad_client.ending
    assert bad_client.messages == [echo()] * DEFAULT_LIMITS.messages
    assert client.messages == [echo()]


async def test_client_may_go_on_after_a_while() -> None:
    async with create_socket_client(URL) as client:
        for _ in range(3):
            for _ in range(DEFAULT_LIMITS.messages):
                await client.send_json(echo())
            await asyncio.sleep(DEFAULT_LIMITS.window)
        pause = DEFAULT_LIMITS.window / DEFAULT_LIMITS.messages
        for _ in range(2 * DEFAULT_LIMITS.messages):
            await send(client, echo())
            await asyncio.sleep(1.01 * pause)

    assert client.messages == [echo()] * 5 * DEFAULT_LIMITS.messages


async def lose(client: TestWebSocket) -> None:
    """Cut a client off, and wait until its connection has ended."""
    cut_off(client)
    await client.wait_for_close(WSCloseCode.ABNORMAL_CLOSURE)


async def reload(client: TestWebSocket) -> None:
    """Close with 1001, as a browser does when its page is reloaded."""
    await client.close(code=WSCloseCode.GOING_AWAY)


@pytest.mark.parametrize("go", [lose, reload])
async def test_group_stays_for_a_member_that_was_lost(go: Go) -> None:
    async with create_socket_client(URL) as client:
        group_id = await create_group(client)
        await go(client)
    for _ in range(2):  # each time, the grace starts anew
        await asyncio.sleep(DEFAULT_LIMITS.grace - 1)
        async with create_socket_client(URL) as client:
            await join_group(client, group_id)
            await go(client)

    await asyncio.sleep(DEFAULT_LIMITS.grace + 1)
    async with create_socket_client(URL) as client:
        await send(client, join(group_id))
    assert client.messages == [unavailable(group_id)]


async def say_goodbye(client: TestWebSocket, _group_id: str) -> None:
    """Close the connection."""
    await client.close()


async def leave_group(client: TestWebSocket, group_id: str) -> None:
    """Leave the group, and stay connected."""
    await send(client, leave(group_id))


async def say_too_much(client: TestWebSocket, _group_id: str) -> None:
    """Let the server close the connection."""
    for _ in range(DEFAULT_LIMITS.messages):
        await client.send_json(echo())
    await client.wait_for_close(WSCloseCode.POLICY_VIOLATION)


@pytest.mark.parametrize("go", [say_goodbye, leave_group, say_too_much])
async def test_group_goes_at_once_with_a_member_that_was_not_lost(
    go: Callable[[TestWebSocket, str], Awaitable[None]],
) -> None:
    async with (
        create_socket_client(URL) as client1,
        create_socket_client(URL) as client2,
        create_socket_client(URL) as client3,
    ):
        group_id = await create_group(client1)
        await join_group(client2, group_id)
        await lose(client1)  # while another member is there
        await go(client2, group_id)
        await send(client3, join(group_id))

    assert client3.messages == [unavailable(group_id)]


# What this clock cannot do: it jumps whenever the event loop has nothing to run.


async def test_wall_clock_stands_still() -> None:
    began = time.time()
    await asyncio.sleep(HOUR)
    assert time.time() - began < MINUTE


async def test_clock_runs_away_while_a_process_works() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE
    )
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), MINUTE)

    assert process.stdin
    process.stdin.close()
    assert await process.wait() == 0  # without a time-out the clock does not matter


async def test_clock_stands_still_while_the_loop_is_busy() -> None:
    loop = asyncio.get_running_loop()
    began, timer = time.monotonic(), loop.call_later(MINUTE, lambda: None)
    while time.monotonic() - began < 0.05:
        await asyncio.sleep(0)
    assert loop.time() < timer.when()
    timer.cancel()
