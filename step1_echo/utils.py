"""Utilities for the tests of a WebSocket server."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EADDRINUSE
from pathlib import Path
from traceback import clear_frames
from warnings import catch_warnings

import pytest


def compute_port() -> int:
    """Return a port of this folder's own: `BASE_PORT + 100 * worker + step`.

    `BASE_PORT` comes from the environment (3000 by default), `worker` from
    pytest-xdist (0 without it), `step` from the folder's name (0 if it has none).
    The article's `3000 + Number(process.env.JEST_WORKER_ID)`.
    """
    base_port = int(os.environ.get("BASE_PORT") or "3000")
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    return base_port + 100 * worker + (int(step[1]) if step else 0)


@contextmanager
def explain_busy_port(port: int) -> Iterator[None]:
    """Fail the test in one line when its server cannot listen on `port`."""
    try:
        yield
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno not in (EACCES, EADDRINUSE):
            raise
        with catch_warnings(action="ignore"):  # aiohttp leaves its socket open
            clear_frames(error.__traceback__)
        problem = f"no server on port {port} (BASE_PORT sets another): {error}"
        raise pytest.fail.Exception(problem, pytrace=False) from None
