"""Runs a test in many orders of events. Only this file knows the engine, detangle."""

import asyncio
import functools
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import detangle
import pytest
from aiohttp import TCPConnector, web

from .utils import TestWebSocket

__tracebackhide__ = True  # pytest's reports show the test, not this file
ORDERS = int(os.environ.get("ORDERS") or "300")  # in each test
SETTINGS: dict[str, Any] = {
    # In seconds; what is written at once can arrive in parts.
    "net": {"latency": (0.0005, 0.005), "fragment": 0.3},
    "timer_jitter": 0.01,  # seconds that a timer can be late
    "check_leaks": True,  # a task that is left running is a failure
}
Test = Callable[..., Coroutine[Any, Any, None]]
choose = detangle.choice  # an item of a list; the shortest schedule prefers the first
note = detangle.note  # adds a line to the schedule


class AnyOrder(detangle.Strategy):
    """Decides what happens next. Some orders are quieter than others."""

    def start(self, run_index: int) -> None:
        """Start an order; its number decides everything."""
        self.random = Random(run_index)
        self.late = self.random.choice([0.1, 0.2, 0.5, 0.8])
        self.ahead = self.random.choice([0.1, 0.3, 1])

    def schedule(self, lanes: Sequence[Any]) -> int:
        """Choose a task that is ready; 0 is the one that asyncio would run."""
        is_ahead = self.random.random() < self.ahead
        return self.random.randrange(len(lanes)) if is_ahead else 0

    def choose(self, n: int, kind: str) -> int:
        """Choose how late a frame or a timer is, or an item for the test."""
        if kind in ("net", "timer") and self.random.random() > self.late:
            return 0
        return self.random.randrange(n)

    def flip(self, p: float, kind: str) -> bool:
        """Choose whether something of probability `p` happens."""
        return self.random.random() < p


class Connector(TCPConnector):
    """How a client connects here: an option of `create_socket_client`."""

    async def _wrap_create_connection(
        self, protocol: Any, *_: Any, addr_infos: Any, **__: Any
    ) -> Any:
        host, port = addr_infos[0][4]
        loop = asyncio.get_running_loop()
        connection = await loop.create_connection(protocol, host, port)
        self.transport = connection[0]
        return connection

    def cut_off(self) -> None:
        """End the connection without a close frame, as a client that crashes does."""
        self.transport.abort()


@asynccontextmanager
async def run_server(app: web.Application, host: str = "server") -> AsyncIterator[str]:
    """Run `app` on a host of its own; yield its URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.3)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, host, 8080).start()

    await detangle.spawn(start(), host=host)
    try:
        yield f"ws://{host}:8080/"
        await asyncio.sleep(1)  # handlers of clients that have gone may still clean up
    finally:
        await runner.cleanup()


class ErrorLog(logging.Handler):
    """Collects the errors that the server logs."""

    def __init__(self) -> None:
        """Start without errors."""
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect an error."""
        cause = record.exc_info[1] if record.exc_info else None
        self.lines.append(f"{record.name} logged: {record.getMessage()}, {cause!r}")


@contextmanager
def observe() -> Iterator[list[str]]:
    """Yield the errors that are logged; note what the clients send and hear."""

    def noted(verb: str, method: Any) -> Any:
        def call(client: TestWebSocket, data: object, *others: Any, **more: Any) -> Any:
            note(f"client {client.number} {verb} {data}")
            return method(client, data, *others, **more)

        return call

    log = ErrorLog()
    logging.getLogger().addHandler(log)
    with pytest.MonkeyPatch.context() as patch:
        for name, verb in ("send_str", "sends"), ("record", "hears"):
            method = getattr(TestWebSocket, name)
            patch.setattr(TestWebSocket, name, noted(verb, method))
        yield log.lines
    logging.getLogger().removeHandler(log)


def explore(test: Test, orders: int = ORDERS, **options: Any) -> detangle.ExploreStats:
    """Run `test` in so many orders, always the same ones; fail with the first problem.

    With TOKEN in the environment, run the one order that a report named.
    """
    with observe() as errors:

        async def run() -> None:
            errors.clear()
            await test()
            assert not errors, "\n".join(errors)

        options = {"strategy": AnyOrder(), "database": False, **SETTINGS, **options}
        token = os.environ.get("TOKEN")
        try:
            return detangle.explore(run, runs=orders, replay=token, **options)
        except detangle.BugFound as error:
            report = describe(error.report)
    raise pytest.fail.Exception(report, pytrace=False)


def in_any_order(test: Test) -> Callable[..., None]:
    """Let pytest run an asynchronous test in many orders."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        explore(functools.partial(test, **fixtures))

    return run


def describe(report: detangle.BugReport) -> str:
    """Return what went wrong, the schedule, and how to repeat it."""
    problem = report.failure.exception or report.failure.message
    lines = [str(problem), "", "The shortest schedule:"]
    for event in report.trace.events if report.trace else ():
        time, place = f"{1000 * event.time:8.1f} ms", event.location
        if event.verb == "note":
            lines.append(f"{time}  {event.text}")
        elif place and event.verb == "await" and is_server(place.filename):
            where = f"{Path(place.filename).name}:{place.lineno}"
            task = event.actor.replace("RequestHandler._handle_request#", "handler ")
            lines.append(f"{time}      {task} waits in {place.function}, {where}")
        if event.deviation:
            others = ", ".join(event.deviation)
            lines.append(f"{' ' * 11}  ({event.actor} went ahead of {others})")
    return "\n".join([*lines, "", f"To repeat it: TOKEN={report.token}"])


def is_server(path: str) -> bool:
    """Tell whether a file belongs to what is tested."""
    tests = ("test_", "utils.py", "simulation.py", "conversations.py")
    return "site-packages" not in path and not Path(path).name.startswith(tests)
