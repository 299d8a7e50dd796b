"""What the test files share: the server must not log an error; brokers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from .broker import Broker, MemoryBroker, NatsBroker
from .processes import start_broker
from .utils import TIMEOUT

BrokerFactory = Callable[[], Broker]
pytest.register_assert_rewrite(f"{__package__}.talk")  # for its reports


@pytest.fixture
async def no_server_errors(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fail the test when the server has logged an error, or left a task behind.

    Ask for it before the server: then the server has stopped when this looks.
    """
    yield
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:  # a handler may still clean up after its client
        await asyncio.wait(tasks, timeout=TIMEOUT / 4)
    problems = [f"has not ended: {t.get_coro()}" for t in tasks if not t.done()]
    for phase in ("setup", "call", "teardown"):
        for record in caplog.get_records(phase):
            if record.levelno >= logging.ERROR:
                cause = record.exc_info[1] if record.exc_info else None
                problems.append(
                    f"{record.name} logged: {record.getMessage()}, {cause!r}"
                )
    if problems:
        pytest.fail("\n".join(dict.fromkeys(problems)), pytrace=False)


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """Start a NATS broker, once, and return its address."""
    with start_broker() as broker:
        yield f"nats://127.0.0.1:{broker.port}"


@pytest.fixture(params=["memory", "nats"])
def new_broker(request: pytest.FixtureRequest) -> BrokerFactory:
    """Return what makes brokers that are connected to each other."""
    if request.param == "nats":
        url = request.getfixturevalue("nats_url")
        return lambda: NatsBroker(url)
    peers: list[MemoryBroker] = []
    return lambda: MemoryBroker(peers)
