"""What the test files share: a guard, virtual time, the server's options, brokers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import looptime
import pytest

from .broker import Broker, MemoryBroker, NatsBroker
from .connection import Limits
from .processes import start_broker
from .utils import TIMEOUT

BrokerFactory = Callable[[], Broker]
Options = dict[str, Any]  # of create_websocket_server()
pytest.register_assert_rewrite(f"{__package__}.messages")  # to explain its asserts


@pytest.fixture
async def virtual_time() -> AsyncIterator[None]:
    """Let the event loop's clock jump to the next timer when nothing is ready to run.

    Request it before the guard and the server: all their timers belong to this clock.
    """
    with looptime.enabled(strict=True):
        yield


@pytest.fixture
async def no_server_errors(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fail the test if the server has logged an error, or left a task running.

    Request it before the server: then it checks when the server has stopped.
    """
    before = asyncio.all_tasks()  # those of a server that outlives the test
    yield
    tasks = asyncio.all_tasks() - before - {asyncio.current_task()}
    if tasks:  # a handler may still be cleaning up
        await asyncio.wait(tasks, timeout=TIMEOUT / 4)
    problems = [f"still running: {t.get_coro()}" for t in tasks if not t.done()]
    for phase in ("setup", "call", "teardown"):
        for record in caplog.get_records(phase):
            if record.levelno >= logging.ERROR:
                cause = record.exc_info[1] if record.exc_info else None
                problems.append(
                    f"{record.name} logged: {record.getMessage()}, {cause!r}"
                )
    if problems:
        pytest.fail("\n".join(dict.fromkeys(problems)), pytrace=False)  # each once


@pytest.fixture
def make_limits() -> Callable[..., Limits]:
    """Return a function that makes limits, for tests that are not about time."""
    return partial(Limits, window=0, grace=0)


@pytest.fixture
def unlimited(make_limits: Callable[..., Limits]) -> Options:
    """Return the options of a server that takes all that a test sends."""
    return {"limits": make_limits(message_size=2**20, name_length=2**20)}


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """Start one NATS broker for all tests, and return its address."""
    with start_broker() as broker:
        yield f"nats://127.0.0.1:{broker.port}"


@pytest.fixture(params=["memory", "nats"])
def new_broker(request: pytest.FixtureRequest) -> BrokerFactory:
    """Return a function that makes brokers, all connected to each other."""
    return connect_to(request.param, request)


def connect_to(kind: str, request: pytest.FixtureRequest) -> BrokerFactory:
    """Return a function that makes brokers of a kind, all connected to each other."""
    if kind == "nats":
        url = request.getfixturevalue("nats_url")
        return lambda: NatsBroker(url)
    peers: list[MemoryBroker] = []
    return lambda: MemoryBroker(peers)


@pytest.fixture(params=["one server", "memory", "nats"])
def new_peers(
    request: pytest.FixtureRequest, unlimited: Options
) -> Callable[[], list[Options]]:
    """Return a function that returns the options of servers with common groups."""
    if request.param == "one server":
        return lambda: [unlimited]
    new_broker = connect_to(request.param, request)
    return lambda: [{**unlimited, "broker": new_broker()} for _ in "12"]
