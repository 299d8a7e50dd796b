"""Run asynchronous tests under uvloop: `python -m pytest -p tools.uvloop_plugin`."""

from asyncio import AbstractEventLoop
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], AbstractEventLoop]]:
    """Name uvloop as the only event loop."""
    return {"uvloop": uvloop.new_event_loop}
