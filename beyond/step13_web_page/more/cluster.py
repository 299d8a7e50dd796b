"""A broker and a server process for each core: `make cluster`; Ctrl-C ends it."""

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

Program = subprocess.Popen[str]
SERVER = f"{Path(__file__).parents[1].name}.server"
STOP = 2  # seconds until a server must have ended


def check_ports(ports: list[int]) -> None:
    """Exit with one line if one of `ports` is not available."""
    for port in ports:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except (OSError, OverflowError):
            sys.exit(f"Cannot use port {port}: begin at another with PORT=9000")


def start_broker() -> tuple[Program, int]:
    """Start NATS; return it, and the free port that it has taken."""
    program = Path(sysconfig.get_path("scripts"), "nats-server")
    broker = subprocess.Popen(
        [program, "-a", "127.0.0.1", "-p", "-1"],
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C does not reach it; this process ends it
        text=True,
    )
    assert broker.stderr
    for line in broker.stderr:
        if found := re.search(r"Listening for client connections on .*:(\d+)", line):
            return broker, int(found[1])
    sys.exit("The broker does not start: run nats-server to see why")


def start_server(url: str, port: int) -> Program:
    """Start a server process, which writes to this terminal."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", SERVER],
        env={**os.environ, "NATS_URL": url, "PORT": str(port)},
        start_new_session=True,
        text=True,
    )


def end_servers(servers: list[Program]) -> None:
    """End server processes; kill those that take too long."""
    for server in servers:
        server.terminate()
    for server in servers:
        try:
            server.wait(STOP)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_for_one(waits: dict[str, Callable[[], object]]) -> str:
    """Return the name of the process that ends first."""
    ended = SimpleQueue[str]()

    def watch(name: str) -> None:
        waits[name]()
        ended.put(name)

    for name in waits:
        Thread(target=watch, args=[name]).start()
    return ended.get()


def main() -> None:
    """Start servers on `PORT`, `PORT` + 1 and so on; if a process ends, end them all.

    With `PORT=0`, each server takes a free port.
    """
    first_port = int(os.environ.get("PORT", "8080"))
    cores = range(os.cpu_count() or 1)
    ports = [first_port + core if first_port else 0 for core in cores]
    check_ports(ports)
    for number in signal.SIGINT, signal.SIGTERM:  # in a script, Ctrl-C may be ignored
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        broker, broker_port = start_broker()
        stack.callback(broker.kill)
        waits: dict[str, Callable[[], object]] = {"the broker": broker.communicate}
        servers: list[Program] = []
        stack.callback(end_servers, servers)
        for core, port in enumerate(ports, 1):
            servers.append(start_server(f"nats://127.0.0.1:{broker_port}", port))
            waits[f"server {core}"] = servers[-1].wait
        sys.exit(f"{wait_for_one(waits)} has ended: so do the others")


if __name__ == "__main__":
    main()
