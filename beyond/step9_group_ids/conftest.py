"""What the test files share: a guard against errors, and the server's options."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .utils import TIMEOUT, compute_port, start_server

Options = dict[str, Any]  # of create_websocket_server()
pytest.register_assert_rewrite(f"{__package__}.messages")  # to explain its asserts


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
def unlimited() -> Options:
    """Return the options of a server that takes all that a test sends: none yet."""
    return {}


@pytest.fixture
async def server(
    no_server_errors: None, aiohttp_server: AiohttpServer, unlimited: Options
) -> TestServer:
    """Give the test a fresh server; pytest-aiohttp stops it after the test."""
    app = web.Application()
    create_websocket_server(app, **unlimited)
    return await start_server(aiohttp_server, app, compute_port())


@pytest.fixture
def new_peers(unlimited: Options) -> Callable[[], list[Options]]:
    """Return a function that returns the options of servers with common groups: one."""
    return lambda: [unlimited]
