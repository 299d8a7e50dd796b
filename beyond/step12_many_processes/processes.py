"""Real processes for the tests: servers, and a NATS broker."""

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

START = 10  # seconds that a process may take to be ready
STOP = 2  # seconds that it may take to end


class Process:
    """A process; its `with` block kills it, and fails if it has logged an error."""

    def __init__(self, ready: str, *command: str, **environment: str) -> None:
        """Start it; a line that matches `ready` names the port when it is ready."""
        self.ready = ready
        self.output = ""  # that has been read
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is not for it
        )

    @property
    def url(self) -> str:
        """The address of its WebSocket server."""
        return f"ws://127.0.0.1:{self.port}"

    @cached_property
    def port(self) -> int:
        """The port it listens on: to ask for it waits until the process is ready."""
        assert self.process.stdout
        with self.kill_after(START):
            for line in self.process.stdout:
                self.output += line
                if found := re.search(self.ready, line):
                    return int(found[1])
        raise RuntimeError(f"no line matches {self.ready!r}:\n{self.output}")

    @contextmanager
    def kill_after(self, seconds: float) -> Iterator[None]:
        """Kill the process when the `with` block takes longer."""
        timer = Timer(seconds, self.process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def end(self, signal_number: int) -> tuple[int, str]:
        """Send a signal; return the exit code, and the output since it was ready.

        Raises `subprocess.TimeoutExpired` when the process goes on for 2 seconds.
        """
        self.send_signal(signal_number)
        return self.wait()

    def send_signal(self, signal_number: int) -> None:
        """Send a signal; on return from `SIGSTOP` the process does nothing more."""
        self.process.send_signal(signal_number)
        if signal_number == signal.SIGSTOP:  # its threads stop a moment later
            with self.kill_after(STOP):
                os.waitpid(self.process.pid, os.WUNTRACED)

    def wait(self, timeout: float = STOP) -> tuple[int, str]:
        """Wait until it ends by itself, and return the same."""
        output, _ = self.process.communicate(timeout=timeout)
        self.output += output
        return self.process.returncode, output

    def read_on(self) -> None:
        """Read what it writes, lest it waits for that, until it ends."""
        assert self.process.stdout
        for _ in self.process.stdout:
            pass
        self.process.wait()

    def __enter__(self) -> "Process":
        """Return the process."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill the process, if it still is one, and look at what it has written."""
        if self.process.returncode is None:
            self.end(signal.SIGKILL)
        if error is None and "Traceback" in self.output:
            raise AssertionError(f"a process has logged an error:\n{self.output}")


def start_broker(port: int = -1) -> Process:
    """Start NATS on a port, by default a free one."""
    program = str(Path(sysconfig.get_path("scripts")) / "nats-server")
    ready = r"Listening for client connections on 127\.0\.0\.1:(\d+)"
    return Process(ready, program, "-a", "127.0.0.1", "-p", str(port))


def start_process(url: str) -> Process:
    """Start the server of this folder as a process, on a free port."""
    return Process(
        r"Running on http://127\.0\.0\.1:(\d+)",
        *(sys.executable, "-u", "-m", f"{__package__}.server"),
        PYTHONPATH=os.pathsep.join(sys.path),
        NATS_URL=url,
        PORT="0",
    )
