"""What the test files share: a guard against errors, and the server's options."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from .server import create_websocket_server
from .utils import TIMEOUT, compute_port, start_server

LIBRARIES = ("TestRunner",)  # whose tasks may go on: anyio's, and those that you add
Options = dict[str, Any]  # of create_websocket_server()
pytest.register_assert_rewrite(f"{__package__}.messages")  # to explain its asserts


@pytest.fixture
async def no_server_errors() -> AsyncIterator[list[str]]:
    """Fail the test if the server has logged an error, or left a task running."""
    problems: list[str] = []
    call_handlers = logging.Logger.callHandlers

    def record(logger: logging.Logger, entry: logging.LogRecord) -> None:
        call_handlers(logger, entry)
        if entry.levelno >= logging.ERROR:
            cause = entry.exc_info[1] if entry.exc_info else None
            problems.append(f"{entry.name} logged: {entry.getMessage()}, {cause!r}")

    # A program may replace the handlers of the log, and disable loggers.
    patch = pytest.MonkeyPatch()  # its own: the test's may be undone
    patch.setattr(logging.Logger, "callHandlers", record)
    never = property(lambda _: False, lambda *_: None)
    patch.setattr(logging.Logger, "disabled", never, raising=False)
    before = asyncio.all_tasks()  # those of a server that outlives the test
    gc.freeze()  # gc.collect(), below, is quick: it looks only at what is new
    yield problems
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    tasks = {it for it in left if not any(name in repr(it) for name in LIBRARIES)}
    if tasks:  # a handler may still be cleaning up
        await asyncio.wait(tasks, timeout=TIMEOUT / 4)
    problems += [f"still running: {it.get_coro()}" for it in tasks if not it.done()]
    del left, tasks
    gc.collect()  # logs the errors of failed tasks now, not in a later test
    gc.unfreeze()
    for name in "aiohttp.server", "asyncio":
        if not logging.getLogger(name).isEnabledFor(logging.ERROR):
            problems.append(f"{name} must not log errors: this guard sees none")
    patch.undo()
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
