"""Tests of `make cluster`."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from . import cluster
from .processes import START, Process


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
