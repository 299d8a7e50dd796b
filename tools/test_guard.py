"""Hold the guard of the steps and the page to what it promises.

A project of its own has its tests run once: each server fails, or does not, when its
client has left, in a program that has set up its log in some way.
"""

import re
import subprocess
import sys
from pathlib import Path
from shutil import copy
from textwrap import dedent

import pytest

from tools.test_recipes import FIRST, build
from tools.test_recipes import run as run_project

STEP = Path("step6_groups")
TESTS = '''
import asyncio
import gc
import logging
import logging.config

import pytest
from aiohttp import web

from .utils import compute_port, create_socket_client, start_server

LOGGER = logging.getLogger("shop")
STDERR = {"class": "logging.StreamHandler"}
OTHERS = {"version": 1, "handlers": {"stderr": STDERR}}
NONE = {**OTHERS, "disable_existing_loggers": False}
KEPT = []


async def fine():
    pass


async def fails():
    raise KeyError("visitors")


async def fails_later():
    await asyncio.sleep(0.1)
    raise KeyError("visitors")


async def catches():
    try:
        await fails()
    except KeyError:
        LOGGER.exception("not counted")


async def task_fails():
    asyncio.create_task(fails())


async def task_fails_later():
    asyncio.create_task(fails_later())


async def task_in_a_cycle_fails():
    """The task has an error, whose traceback has the list, which has the task."""
    gc.disable()  # otherwise Python may collect the cycle early, or not
    cycle = []

    async def fail():
        raise KeyError("visitors", cycle and "")

    cycle.append(asyncio.create_task(fail()))


async def task_goes_on():
    KEPT.append(asyncio.create_task(asyncio.sleep(9)))


async def goes_on():
    await asyncio.Event().wait()


SETTINGS = {
    "as_it_is": lambda: None,
    "disabled": lambda: logging.config.dictConfig(OTHERS),
    "replaced": lambda: logging.config.dictConfig(
        NONE | {"root": {"handlers": ["stderr"]}}
    ),
    "forced": lambda: logging.basicConfig(force=True),
    "apart": lambda: logging.config.dictConfig(
        NONE | {"loggers": {"shop": {"handlers": ["stderr"], "propagate": False}}}
    ),
    "off": lambda: logging.disable(logging.ERROR),
}


async def visit(aiohttp_server, when_left):
    """Connect to a server that does something when its client has left."""

    async def handle(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        await when_left()
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    await start_server(aiohttp_server, app, compute_port())
    async with create_socket_client(compute_port()):
        pass


async def test_error_that_is_expected(no_server_errors, caplog):
    await catches()
    assert "not counted" in caplog.text
    assert no_server_errors == ["shop logged: not counted, KeyError('visitors')"]
    no_server_errors.clear()


async def test_patches_are_undone(aiohttp_server, monkeypatch):
    monkeypatch.undo()
    await visit(aiohttp_server, fails)


@pytest.mark.parametrize(
    "when_left",
    [fine, fails, catches, task_fails, task_fails_later]
    + [task_in_a_cycle_fails, task_goes_on, goes_on],
    ids=lambda it: it.__name__,
)
@pytest.mark.parametrize("setting", SETTINGS)
async def test_guard(aiohttp_server, setting, when_left):
    gc.enable()
    SETTINGS[setting]()
    await visit(aiohttp_server, when_left)
'''
TASK = "asyncio logged: Task exception was never retrieved"
CASES = {
    "fine": [],
    "fails": ["aiohttp.server logged: Error handling request from 127.0.0.1, KeyErr"],
    "catches": ["shop logged: not counted, KeyError('visitors')"],
    "task_fails": [TASK],
    "task_fails_later": [TASK],
    "task_in_a_cycle_fails": [TASK],
    "task_goes_on": ["still running: <coroutine object sleep at"],
    "goes_on": ["still running: <coroutine object RequestHandler."],
}
LATER = "asyncio logged: Task was destroyed but it is pending!"  # of what goes on
SETTINGS = ["as_it_is", "disabled", "replaced", "forced", "apart", "off"]
BLIND = [f"{it} must not log errors: this" for it in ("aiohttp.server", "asyncio")]


def run(folder: Path) -> str:
    """Return what pytest prints on a folder of tests."""
    options = ["-p", "no:cacheprovider", "--show-capture=no", "-rA", "."]
    command = [sys.executable, "-m", "pytest", *options]
    return subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False, timeout=99
    ).stdout


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Run the tests of the project; return the lines of the guard's reports."""
    folder = tmp_path_factory.mktemp("guard")
    (folder / "__init__.py").touch()
    for name in "utils.py", "conftest.py", "../pyproject.toml":
        copy(STEP / name, folder)
    (folder / "test_shop.py").write_text(TESTS)
    output, _, summary = run(folder).partition("= short test summary")
    names = re.findall(r"^PASSED .*::(\S+)", summary, re.MULTILINE)
    parts = re.split(r"^_+ ERROR at teardown of (\S+) _+\n", output, flags=re.MULTILINE)
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))
    line = re.compile("^.*(?: logged|running|errors): .*", re.MULTILINE)
    return {name: line.findall(texts.get(name, "")) for name in names}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_guard_sees_what_fails(
    reports: dict[str, list[str]], setting: str, name: str
) -> None:
    found = reports[f"test_guard[{setting}-{name}]"]
    expected = CASES[name]
    if setting == "off":
        expected = [it for it in expected if "running" in it] + BLIND
    seen = [it for it in expected if any(line.startswith(it) for line in found)]
    assert seen == expected
    assert all(line.startswith((*expected, LATER)) for line in found)


def test_guard_keeps_what_the_test_expects(reports: dict[str, list[str]]) -> None:
    assert reports["test_error_that_is_expected"] == []
    [report] = reports["test_patches_are_undone"]
    assert report.startswith("aiohttp.server logged: Error handling request")


LOGURU = """
import loguru


@loguru.logger.catch
async def clean_up():
    raise KeyError("visitors")
"""
# A test with a fixture, and a mark, as FastAPI teaches.
ANYIO = """
import asyncio

import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


{fixture}


async def test_others(loop):
    assert loop in (None, asyncio.get_running_loop())
"""
LOOP = "@pytest.fixture\n{}def loop():\n    return {}"
FIXTURES = {
    "own_server": LOOP.format("", "None"),  # not asynchronous: see strict_mode
    "recipes/strict_mode": LOOP.format("async ", "asyncio.get_running_loop()"),
}


def test_guard_sees_what_is_passed_on_by_loguru(tmp_path: Path) -> None:
    code = Path("docs/own_server.md").read_text()
    blocks = re.findall("^    ```python\n(.*?)    ```$", code, re.MULTILINE | re.DOTALL)
    files = build(FIRST)
    files["tests/conftest.py"] += dedent(blocks[0])
    end = "    return socket\n"
    files["shop.py"] = files["shop.py"].replace(end, f"    await clean_up()\n{end}")
    files["shop.py"] += LOGURU
    returncode, output = run_project(files, tmp_path)
    assert returncode == 1
    assert re.search(r"^loguru logged: An error .*KeyError\('vis", output, re.MULTILINE)


@pytest.mark.parametrize("page", FIXTURES)
def test_guard_leaves_tests_of_anyio_alone(tmp_path: Path, page: str) -> None:
    files = build(Path(f"docs/{page}.md"))
    files["tests/test_others.py"] = ANYIO.format(fixture=FIXTURES[page])
    returncode, output = run_project(files, tmp_path, PYTEST_ADDOPTS="")
    assert returncode == 0, output
