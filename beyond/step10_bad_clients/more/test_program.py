"""Tests of the server as a program, with a limit of open files."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import ClientSession

from ..messages import (
    PORT,
    URL,
)
from ..server import create_websocket_server
from ..utils import TIMEOUT, bounded

pytestmark = pytest.mark.usefixtures("no_server_errors")


@asynccontextmanager
async def run_program(
    soft: int, hard: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the server as a program, with soft and hard limits of open files."""
    resource = pytest.importorskip("resource")
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-u", "-m", create_websocket_server.__module__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PORT": str(PORT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    try:
        assert process.stdout
        starting = process.stdout.readline()
        line = await bounded(starting, "the server to start", 10 * TIMEOUT)
        assert line.startswith(b"======== Running on http://127.0.0.1:")
        yield process
    finally:
        with suppress(ProcessLookupError):  # it has ended
            process.kill()
        await process.communicate()


async def test_program_raises_the_limit_of_open_files() -> None:
    async with run_program(64, 4096) as program:
        async with asyncio.timeout(5 * TIMEOUT), ClientSession() as session:
            clients = [await session.ws_connect(URL) for _ in range(100)]
            assert not any(client.closed for client in clients)
        program.terminate()
        ending = bounded(program.communicate(), "the program to end", 5 * TIMEOUT)
        _, errors = await ending

    assert errors == b""


async def test_program_says_that_it_cannot_open_enough_files() -> None:
    async with run_program(64, 128) as program:
        program.terminate()
        ending = bounded(program.communicate(), "the program to end", 5 * TIMEOUT)
        _, errors = await ending

    assert errors.count(b"\n") == 1
    assert b"1000 clients may need 2100 open files, not 128" in errors
