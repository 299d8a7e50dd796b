"""Integration tests of servers in their own processes."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress

import pytest

from . import cluster
from .messages import (
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
    unavailable,
)
from .processes import START, Process, start_broker, start_process
from .utils import TestWebSocket

BROKER_SIGNALS = {
    "there": signal.SIGCONT,  # continue
    "away": signal.SIGKILL,
    "stuck": signal.SIGSTOP,
}


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
                await send(client, {"type": "ECHO_TO_ALL", "value": "whoever is here"})
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
                await client2.send_json({"type": "ECHO_TO_ALL", "value": "back"})
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


@contextmanager
def start_cluster(port: int) -> Iterator[Process]:
    """Start a cluster from this port on; end it at the end of the block."""
    process = Process(
        r"Running on http://127\.0\.0\.1:(\d+)",
        *(sys.executable, "-m", cluster.__name__),
        PYTHONPATH=os.pathsep.join(sys.path),
        PORT=str(port),
    )
    with process:
        try:
            yield process
        finally:
            if process.process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(START)


def find_children(parent: Process) -> dict[int, str]:
    """Return the processes of a cluster, with their commands."""
    command = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    processes = [line.split(maxsplit=2) for line in listed.splitlines()]
    pid = str(parent.process.pid)
    return {int(child): args for child, ppid, args in processes if ppid == pid}


@pytest.mark.parametrize("dies", [".server", "nats-server"], ids=["server", "broker"])
def test_cluster_ends_with_a_process_that_dies(dies: str) -> None:
    with start_cluster(0) as process:
        assert process.port
        children = find_children(process)
        os.kill(min(pid for pid in children if dies in children[pid]), signal.SIGKILL)
        code, output = process.wait(START)

    name = "the broker" if dies == "nats-server" else "server 1"
    assert code == 1
    assert output.count(f"{name} has ended: so do the others\n") == 1
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_ctrl_c_ends_a_cluster() -> None:
    with start_cluster(0) as process:
        assert process.port
        children = find_children(process)
        process.send_signal(signal.SIGINT)
        code, _ = process.wait(START)

    assert code == 0
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_cluster_on_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start_cluster(port) as process:
            code, output = process.wait(START)

    problem = f"Cannot use port {port}: begin at another with PORT=9000\n"
    assert (code, output) == (1, problem)


async def test_without_a_broker() -> None:
    with start_process("") as process:
        async with create_socket_client(process.url) as client:
            group_id = await create_group(client)
            await send(client, message(group_id))

    assert client.messages == [group_message(group_id)]
