"""Tests of server processes whose broker is away or stuck, and of Ctrl-C."""

import re
import secrets
import signal
from contextlib import AsyncExitStack, ExitStack, suppress

import pytest

from ..messages import (
    create,
    create_group,
    create_socket_client,
    echo,
    group_message,
    join,
    join_group,
    leave,
    message,
    send,
    to_all,
    unavailable,
)
from ..utils import TestWebSocket
from .processes import START, start_broker, start_process

BROKER_SIGNALS = {
    "there": signal.SIGCONT,  # continue
    "away": signal.SIGKILL,
    "stuck": signal.SIGSTOP,
}


async def probe(
    sender: TestWebSocket, group_id: str, hearer: TestWebSocket, reply: object
) -> None:
    """Send messages to a group until `hearer` hears `reply`, for at most 5 seconds."""
    hearer.clear_messages()
    for _ in range(50):
        await send(sender, message(group_id, "probe"))
        with suppress(TimeoutError):
            return await hearer.wait_for_message(reply, timeout=0.1)
    raise TimeoutError(f"waited 5 s for {reply}\n{hearer}")


async def pass_last_messages(group_id: str, *members: TestWebSocket) -> None:
    """Let all members send one more message; then clear what they have heard."""
    for sender in members:
        await sender.send_json(message(group_id, str(sender.number)))
        for member in members:
            await member.wait_for_message(group_message(group_id, str(sender.number)))
    for member in members:
        member.clear_messages()


async def test_broker_goes_away_and_comes_back() -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(start_broker())
        url = f"nats://127.0.0.1:{broker.port}"
        processes = [stack.enter_context(start_process(url)) for _ in range(2)]
        async with (
            create_socket_client(processes[0].url) as client1,
            create_socket_client(processes[1].url) as client2,
            create_socket_client(processes[1].url) as client3,
        ):
            group_id = await create_group(client1)
            await join_group(client2, group_id)
            no, hi = unavailable(group_id), group_message(group_id)

            broker.end(signal.SIGKILL)
            for client in client1, client2:
                await probe(client, group_id, client, no)
                client.clear_messages()
                await send(client, message(group_id))
                await send(client, to_all("whoever is here"))
                await send(client, create("B"))
            await send(client3, join(group_id_of_nobody := secrets.token_urlsafe()))
            away = [no, echo("whoever is here"), unavailable("B")]
            assert client1.messages == client2.messages == away
            assert client3.messages == [away[1], unavailable(group_id_of_nobody)]

            stack.enter_context(start_broker(broker.port))
            probed = group_message(group_id, "probe")
            await probe(client1, group_id, client2, probed)
            await probe(client2, group_id, client1, probed)
            await pass_last_messages(group_id, client1, client2)
            client3.clear_messages()
            await join_group(client3, group_id)
            for sender in client1, client2, client3:
                await sender.send_json(message(group_id))
            for client in client1, client2, client3:
                await client.wait_for_message_count(3)

    assert client1.messages == client2.messages == client3.messages == [hi, hi, hi]


async def test_groups_begin_and_end_after_each_time() -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(start_broker())
        port = broker.port
        url = f"nats://127.0.0.1:{port}"
        process1, process2 = [stack.enter_context(start_process(url)) for _ in "12"]
        async with (
            create_socket_client(process1.url) as client1,
            create_socket_client(process2.url) as client2,
        ):
            group_id = await create_group(client1)
            await join_group(client2, group_id)
            for _ in range(2):
                left_id = await create_group(client1)
                broker.end(signal.SIGKILL)
                for client in client1, client2:
                    await probe(client, group_id, client, unavailable(group_id))
                await send(client1, leave(left_id))

                broker = stack.enter_context(start_broker(port))
                probed = group_message(group_id, "probe")
                await probe(client1, group_id, client2, probed)
                await probe(client2, group_id, client1, probed)
                await pass_last_messages(group_id, client1, client2)
                await send(client2, join(left_id))
                await join_group(client2, await create_group(client1))
                await client2.send_json(to_all("back"))
                await client1.wait_for_message(echo("back"))
                assert client2.messages == [unavailable(left_id), echo("back")]
        _, output = process1.end(signal.SIGINT)

    assert re.findall("is (away|back)", output) == ["away", "back"] * 2


@pytest.mark.parametrize("broker_is", ["away", "stuck"])
def test_broker_is_missing_at_the_start(broker_is: str) -> None:
    with start_broker() as broker:
        url = f"nats://127.0.0.1:{broker.port}"
        broker.send_signal(BROKER_SIGNALS[broker_is])

        with start_process(url) as process:
            assert process.wait(START) == (1, f"no broker at {url} (NATS_URL)\n")


def test_broker_arrives_after_the_server() -> None:
    with start_broker() as broker:
        url = f"nats://127.0.0.1:{broker.port}"

    with start_process(url) as process, start_broker(broker.port):
        assert process.port


@pytest.mark.parametrize("broker_is", BROKER_SIGNALS)
async def test_ctrl_c_ends_a_server_with_clients(broker_is: str) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(start_broker())
        url = f"nats://127.0.0.1:{broker.port}"
        process = stack.enter_context(start_process(url))
        with suppress(ConnectionError):  # the server does not wait for the client
            async with create_socket_client(process.url) as client:
                for _ in range(60):  # leaving each of them takes a moment
                    await create_group(client)
                broker.send_signal(BROKER_SIGNALS[broker_is])
                code, _ = process.end(signal.SIGINT)

    assert code == 0


async def test_ctrl_c_while_the_broker_reads_nothing() -> None:
    """Nine clients have sent more than the broker reads; the server ends in time."""
    text = "x" * 16_000  # 855 of them do not fit in the system's buffers
    with start_broker() as broker:
        url = f"nats://127.0.0.1:{broker.port}"
        with start_process(url) as process, suppress(ConnectionError):
            async with AsyncExitStack() as stack:
                connecting = [create_socket_client(process.url) for _ in range(9)]
                clients = [await stack.enter_async_context(it) for it in connecting]
                group_ids = [await create_group(client) for client in clients]
                broker.send_signal(signal.SIGSTOP)
                for client, group_id in zip(clients, group_ids, strict=True):
                    for _ in range(95):  # more would be over the rate limit
                        await client.send_json(message(group_id, text))
                    await client.settle()
                code, _ = process.end(signal.SIGINT)

    assert code == 0


async def test_without_a_broker() -> None:
    with start_process("") as process:
        async with create_socket_client(process.url) as client:
            group_id = await create_group(client)
            await send(client, message(group_id))

    assert client.messages == [group_message(group_id)]


async def test_broadcast_reaches_clients_of_both_processes(nats_url: str) -> None:
    with start_process(nats_url) as process1, start_process(nats_url) as process2:
        async with (
            create_socket_client(process1.url) as client1,
            create_socket_client(process2.url) as client2,
        ):
            for sender in client1, client2, client1:
                heard = len(client1.messages) + 1
                await sender.send_json(to_all("HI"))
                await client1.wait_for_message_count(heard)
                await client2.wait_for_message_count(heard)

    assert client1.messages == client2.messages == [echo("HI")] * 3


async def test_groups_go_on_without_a_process_that_was_killed(nats_url: str) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(start_process(nats_url)) for _ in "12"]
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
