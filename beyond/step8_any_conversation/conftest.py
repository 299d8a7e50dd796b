"""What the test files share: the server must not log an error."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from .utils import TIMEOUT


@pytest.fixture
async def no_server_errors(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fail the test when the server has logged an error, or left a task behind.

    Ask for it before the server: then the server has stopped when this looks.
    """
    yield
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:  # a handler may still clean up after its client
        await asyncio.wait(tasks, timeout=TIMEOUT / 4)
    problems = [f"has not ended: {t.get_coro()}" for t in tasks if not t.done()]
    for phase in ("setup", "call", "teardown"):
        for record in caplog.get_records(phase):
            if record.levelno >= logging.ERROR:
                cause = record.exc_info[1] if record.exc_info else None
                problems.append(
                    f"{record.name} logged: {record.getMessage()}, {cause!r}"
                )
    if problems:
        pytest.fail("\n".join(dict.fromkeys(problems)), pytrace=False)
