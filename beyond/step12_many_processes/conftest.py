"""The brokers that the tests share."""

from collections.abc import Callable, Iterator

import pytest

from .broker import Broker, MemoryBroker, NatsBroker
from .processes import start_broker

BrokerFactory = Callable[[], Broker]


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
