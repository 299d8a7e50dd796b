"""Utilities for the tests of a WebSocket server."""

import os
import re
from pathlib import Path

import pytest

# The limit of a wait, in seconds. Most take milliseconds; slow machines set more.
TIMEOUT = float(os.environ.get("TIMEOUT") or "1")


def compute_port() -> int:
    """Return the port of this folder's tests: `BASE_PORT + 100 * worker + step`.

    `BASE_PORT` comes from the environment (3000 by default), `worker` from
    pytest-xdist (0 without it), `step` from the folder's name (99 if it has none).
    The article's `3000 + Number(process.env.JEST_WORKER_ID)`.
    """
    base_port = os.environ.get("BASE_PORT") or "3000"
    if not base_port.isdecimal():
        pytest.fail(f"BASE_PORT is not a number: {base_port!r}", pytrace=False)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    return int(base_port) + 100 * worker + (int(step[1]) if step else 99)
