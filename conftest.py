"""Keep reports short: say in a line what is wrong with a port; no step needs this."""

import contextlib
import os
from collections.abc import Generator
from errno import EACCES, EADDRINUSE
from socket import socket
from traceback import walk_tb

import pytest

vars(contextlib)["__tracebackhide__"] = True  # the lines of `async with` helpers


def pytest_configure() -> None:
    """Stop if BASE_PORT is no port."""
    base_port = os.environ.get("BASE_PORT") or "3000"
    if not base_port.isdecimal() or int(base_port) > 60_000:
        problem = f"BASE_PORT is {base_port!r}, not a number up to 60000"
        raise pytest.UsageError(problem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Name the port if the server cannot have it."""
    try:
        return (yield)
    except OSError as error:
        if error.errno not in (EACCES, EADDRINUSE):
            raise
        for frame, _ in walk_tb(error.__traceback__):
            for it in frame.f_locals.values():
                if isinstance(it, socket):
                    it.close()  # aiohttp has left it open, and that warns
        module = item.getparent(pytest.Module)
        port = getattr(module and module.obj, "PORT", "of this test")
        problem = f"no server on port {port} (BASE_PORT sets another): {error}"
        raise pytest.fail.Exception(problem, pytrace=False) from None
