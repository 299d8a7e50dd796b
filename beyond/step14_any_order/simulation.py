"""Runs a test in many orders of events. Only this file knows the engine, detangle."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial, wraps
from pathlib import Path
from random import Random
from typing import Any

import detangle
import pytest
from aiohttp import TCPConnector, WSMessage, web
from aiohttp.client_proto import ResponseHandler

from .utils import TestWebSocket

__tracebackhide__ = True  # pytest's reports show the test, not this file
ORDERS = int(os.environ.get("ORDERS") or "150")  # in each test
SETTINGS: dict[str, Any] = {
    # In seconds; what is written at once can arrive in parts.
    "net": {"latency": (0.0005, 0.005), "fragment": 0.3},
    "timer_jitter": 0.01,  # seconds that a timer can be late
    "check_leaks": True,  # a task that is left running is a failure
    "reorder": os.environ.get("REORDER") != "no",  # let tasks run out of turn
}
Test = Callable[..., Coroutine[Any, Any, None]]
choose = detangle.choice  # an item of a list; the shortest schedule prefers the first
note = detangle.note  # adds a line to the schedule
verbose = False  # whether a report shows every step of the event loop


class AnyOrder(detangle.Strategy):
    """Decides what happens next. Some orders are quieter than others."""

    def start(self, run_index: int) -> None:
        """Start an order; its number decides everything."""
        self.random = Random(run_index)
        self.late = self.random.choice([0.1, 0.2, 0.5, 0.8])
        self.ahead = self.random.choice([0, 0, 0.2, 1])

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
        self, *arguments: Any, addr_infos: list[Any], **_: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        host, port = addr_infos[0][4]
        loop = asyncio.get_running_loop()
        connection = await loop.create_connection(arguments[0], host, port)
        self.transport = connection[0]
        return connection

    def cut_off(self) -> None:
        """End the connection without a close frame, as a client that crashes does."""
        self.transport.abort()


def start_on(host: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task on a host: the servers that it starts have this address."""
    return detangle.spawn(work, host=host)


@asynccontextmanager
async def run_server(app: web.Application, host: str = "server") -> AsyncIterator[str]:
    """Run `app` on a host of its own; yield its URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.3)
    await runner.setup()
    await start_on(host, web.TCPSite(runner, host, 8080).start())
    try:
        yield f"ws://{host}:8080/"
        await asyncio.sleep(1)  # handlers of clients that have gone may still clean up
    finally:
        await runner.cleanup()
        await asyncio.sleep(1)  # tasks that have been cancelled end


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
    """Yield the errors that are logged; note what clients send and hear."""
    log, send, record = ErrorLog(), TestWebSocket.send_str, TestWebSocket.record

    async def send_str(
        client: TestWebSocket, data: str, *options: Any, **_: Any
    ) -> None:
        note(f"client {client.number} sends {data}")
        await send(client, data, *options)

    def note_message(client: TestWebSocket, frame: WSMessage, *options: Any) -> None:
        note(f"client {client.number} hears {frame.data}")
        record(client, frame, *options)

    logging.getLogger().addHandler(log)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TestWebSocket, "send_str", send_str)
            patch.setattr(TestWebSocket, "record", note_message)
            yield log.lines
    finally:
        logging.getLogger().removeHandler(log)


def run_all(test: Test, orders: int, **options: Any) -> detangle.ExploreStats:
    """Run `test` in many orders; raise the first problem, described."""
    options = {"strategy": AnyOrder(), "database": False, **SETTINGS, **options}
    token = os.environ.get("TOKEN")
    with observe() as errors:

        async def run() -> None:
            errors.clear()
            await test()
            assert not errors, "\n".join(errors)

        try:
            return detangle.explore(run, runs=orders, replay=token, **options)
        except detangle.BugFound as error:
            report = describe(error.report)
    raise pytest.fail.Exception(report, pytrace=False)


async def explore(
    test: Test, orders: int = ORDERS, **options: Any
) -> detangle.ExploreStats:
    """Run `test` in many orders, the same ones each time; fail with the first problem.

    With TOKEN in the environment, run it once, in the order that a report has named.
    Each order has its own event loop, so this runs in a thread.
    """
    return await asyncio.to_thread(run_all, test, orders, **options)


async def explore_all(test: Test, deviations: int) -> detangle.ExploreStats:
    """Run `test` in every order with at most so many steps out of turn, or timers late.

    All frames take the same time here, and arrive whole.
    """
    net = {"latency": (0.001, 0.001), "fragment": 0}
    strategy = detangle.DFS(deviations)
    return await explore(test, 10**6, strategy=strategy, net=net, jitter_steps=2)


def in_any_order(test: Test) -> Test:
    """Let pytest run a test in many orders."""

    @wraps(test)
    async def run(**fixtures: Any) -> None:
        await explore(partial(test, **fixtures))

    return run


def describe(report: detangle.BugReport) -> str:
    """Return what went wrong, the schedule, and how to repeat it."""
    if verbose:
        return report.render(trace_limit=0)
    events = report.trace.events if report.trace else []
    handlers = dict.fromkeys(it.actor for it in events if "_handle_re" in it.actor)
    names = {task: f"handler {number}" for number, task in enumerate(handlers, 1)}
    names["callbacks"] = "a timer or a frame"
    lines = []
    for event in events:
        time, place = f"{1000 * event.time:7.1f} ms  ", event.location
        name = names.get(event.actor, event.actor)
        if event.verb == "note":
            lines.append(f"{time}{event.text}")
        elif place and event.source.startswith("async for"):
            continue  # a handler waits for the next message
        elif place and event.verb == "await" and is_server(place.filename):
            where = f"{Path(place.filename).name}:{place.lineno}"
            lines.append(f"{time}    {name} waits in {place.function}, {where}")
        if event.deviation:
            others = ", ".join(names.get(it, it) for it in event.deviation)
            lines.append(f"{' ' * 12}    ({name} went ahead of {others})")
    problem = str(report.failure.exception or report.failure.message)
    token = f"To repeat it: TOKEN={report.token}"
    return "\n".join([problem, "", "The shortest schedule:", *lines, "", token])


def is_server(path: str) -> bool:
    """Tell whether a file belongs to what is tested."""
    tests = ("test_", "utils.py", "simulation.py", "conversations.py")
    return "site-packages" not in path and not Path(path).name.startswith(tests)
