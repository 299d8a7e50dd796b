"""Utilities for the tests of a WebSocket server."""

import os
import re
from pathlib import Path

# The limit of a wait, in seconds. Most take milliseconds; slow machines set more.
TIMEOUT = float(os.environ.get("TIMEOUT") or "1")


def compute_port() -> int:
    """Return `BASE_PORT + 100 * worker + step`; in the article, `3000 + worker`."""
    base_port = int(os.environ.get("BASE_PORT") or "3000")
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    return base_port + 100 * worker + (int(step[1]) if step else 99)
