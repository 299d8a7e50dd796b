"""A guard for every test: it fails if the server's own code has failed."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator

import pytest

from .utils import TIMEOUT

LIBRARIES = ("TestRunner",)  # whose tasks may go on: anyio's, and those that you add


@pytest.fixture(autouse=True)
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
