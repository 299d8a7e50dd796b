"""Utilities for the tests of a WebSocket server."""

import os
import re
from pathlib import Path
from socket import create_server

import pytest


def compute_port() -> int:
    """Return a port of this folder's own: `BASE_PORT + 10 * worker + step`.

    `BASE_PORT` comes from the environment (3000 by default), `worker` from
    pytest-xdist (0 without it), `step` from the folder's name (0 if it has none).
    Fails the test module, in one line, when no server can listen there.
    The article's `3000 + Number(process.env.JEST_WORKER_ID)`.
    """
    base_port = os.environ.get("BASE_PORT", "3000")
    if not base_port.isdecimal() or int(base_port) > 65000:
        pytest.fail(f"BASE_PORT={base_port} is no number up to 65000", pytrace=False)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    step = re.match(r"step(\d+)", Path(__file__).parent.name)
    port = int(base_port) + 10 * int(worker) + (int(step[1]) if step else 0)
    try:
        create_server(("127.0.0.1", port)).close()
        return port
    except OSError as error:
        problem = error
    pytest.fail(f"cannot use port {port}, set BASE_PORT: {problem}", pytrace=False)
