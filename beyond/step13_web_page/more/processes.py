"""Processes for the tests: servers and a NATS broker."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Timer
from types import TracebackType

from .. import server

START = 10  # seconds until a process must be ready
STOP = 2  # seconds until it must have ended


class Process:
    """A process; its `with` block ends by killing it, and fails if it logged errors."""

    def __init__(self, ready: str, *command: str, **environment: str) -> None:
        """Start the process; it is ready when it prints a line that matches `ready`."""
        self.ready = ready
        self.output = ""  # so far
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C does not reach it
        )

    @property
    def url(self) -> str:
        """The address of its WebSocket server."""
        return f"ws://127.0.0.1:{self.port}{server.PATH}"

    @cached_property
    def port(self) -> int:
        """The port that the process listens on; waits until the process is ready."""
        assert self.process.stdout
        with self.kill_after(START):
            for line in self.process.stdout:
                self.output += line
                if found := re.search(self.ready, line):
                    return int(found[1])
        raise RuntimeError(f"no line matches {self.ready!r}:\n{self.output}")

    @contextmanager
    def kill_after(self, seconds: float) -> Iterator[None]:
        """Kill the process if the `with` block takes longer."""
        timer = Timer(seconds, self.process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def end(self, signal_number: int) -> tuple[int, str]:
        """Send a signal; return the exit code, and the output since it was ready.

        Raises `subprocess.TimeoutExpired` if the process has not ended in 2 seconds.
        """
        self.send_signal(signal_number)
        return self.wait()

    def send_signal(self, signal_number: int) -> None:
        """Send a signal; after `SIGSTOP`, wait until the process has stopped."""
        self.process.send_signal(signal_number)
        if signal_number == signal.SIGSTOP:  # its threads stop a moment later
            with self.kill_after(STOP):
                os.waitpid(self.process.pid, os.WUNTRACED)

    def wait(self, timeout: float = STOP) -> tuple[int, str]:
        """Wait until the process ends by itself; return what `end` returns."""
        output, _ = self.process.communicate(timeout=timeout)
        self.output += output
        return self.process.returncode, output

    def __enter__(self) -> "Process":
        """Return the process."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill the process if it still runs, and check its output."""
        if self.process.returncode is None:
            self.end(signal.SIGKILL)
        if error is None and "Traceback" in self.output:
            raise AssertionError(f"a process has logged an error:\n{self.output}")


def start_broker(port: int = -1) -> Process:
    """Start NATS, by default on a free port."""
    program = str(Path(sysconfig.get_path("scripts")) / "nats-server")
    ready = r"Listening for client connections on 127\.0\.0\.1:(\d+)"
    return Process(ready, program, "-a", "127.0.0.1", "-p", str(port))


def start_process(url: str) -> Process:
    """Start the server as a process, on a free port."""
    return Process(
        r"Running on http://127\.0\.0\.1:(\d+)",
        *(sys.executable, "-u", "-m", server.__name__),
        PYTHONPATH=os.pathsep.join(sys.path),
        NATS_URL=url,
        PORT="0",
    )
