"""What the test files share: the server must not log an error."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from .utils import TIMEOUT

pytest.register_assert_rewrite(f"{__package__}.talk")  # for its reports


@pytest.fixture
async def no_server_errors(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fail the test when the server has logged an error, or when a handler never ends.

    Ask for it before the server: then the server has stopped when this looks.
    """
    yield
    handlers = [task for task in asyncio.all_tasks() if "RequestHandler" in repr(task)]
    if handlers:
        await asyncio.wait(handlers, timeout=TIMEOUT)
    problems = {"a handler has not ended" for task in handlers if not task.done()}
    for phase in ("setup", "call", "teardown"):
        for record in caplog.get_records(phase):
            if record.levelno >= logging.ERROR:
                cause = record.exc_info[1] if record.exc_info else None
                problems.add(f"the server logged: {record.getMessage()}, {cause!r}")
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
