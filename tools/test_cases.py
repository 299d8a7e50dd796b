"""Put the servers of cases/ under test, each as a recipe of "Your own server" says.

BUG in the environment makes such a server wrong. Its tests, in the file beside it,
stand in the project of the recipe, where the recipe's own server and tests stood.
"""

import os
import re
from pathlib import Path

import pytest

from tools.test_recipes import PAGES, build, check_types, run

CASES = Path("tools/cases")
# Each server's page, and what the report on each of its bugs says.
TABLE = {
    "churn": (
        "pushes",
        {
            "live_set": " == ['state 0', 'state 1']",
            "reported": "RuntimeError('Set changed size during iteration')",
        },
    ),
    "fastapi_pushes": (
        "fastapi",
        {
            "does_not_end": "Cancel 2 running task(s), timeout graceful shutdown exc",
            "does_not_start": "uvicorn did not start: its log says why",
            "fails": "KeyError('visitors')",
            "forgets_one": "Right contains one more item: {'price': '1.30'}",
            "refuses_early": "WSServerHandshakeError: 403",
            "stays_open": "assert not {'milk': '1.20'}",
        },
    ),
    "frozen_time": ("clocks", {"silent": "'hello' != 'session expired'"}),
    "handler_fails": (
        "pushes",
        {
            "before": "KeyError('no such room')",
            "noaccept": "WSServerHandshakeError: 200",
            "in_loop": "KeyError('no such command')",
            "cleanup": "KeyError('never joined')",
            "task": "KeyError: 'audit table missing'",
        },
    ),
    "heartbeat": (
        "leaving",
        {"off": "waited 1 s for the server to close with code 1006"},
    ),
    "large": (
        "closes_first",
        {
            "small": "closed before the client's close frame, with code 1009",
            "none": "had received 1: ['stored 9437184']",
        },
    ),
    "many_clients": (
        "own_server",
        {
            "crowd": "At index 128 diff: [] != ['hello']",
            "limit": "At index 100 diff: [] != ['hello']",
            "turned_away": "client 160: the server closed before the client's close fr",
        },
    ),
    "not_registered_yet": (
        "own_server",
        {"forgets": "Right contains one more item: 'hello'"},
    ),
    "outbox": (
        "own_server",
        {
            "dies": "waited 1 s for the message 'pong'",
            "leaks": "At index 0 diff: 'hello' != 'pong'",
            "twice": "At index 1 diff: 'hello' != 'pong'",
        },
    ),
    "post_pushes": (
        "pushes",
        {
            "late": "Left contains 2 more items, first extra item: '1.30'",
            "late0": "Left contains 2 more items, first extra item: '1.30'",
            "twice": "Left contains 2 more items, first extra item: '1.30'",
        },
    ),
    "receive_in_block": (
        "own_server",
        {
            "silent": "waited 1 s for the message 'accepted bread'",
            "deaf": "still running: <coroutine object RequestHandler._handle_request",
        },
    ),
    "stored_by_tasks": (
        "own_server",
        {
            "another_task": "Left contains one more item: 'milk'",
            "fails": "asyncio logged: Task exception was never retrieved",
            "twice": "Left contains one more item: 'stored milk'",
        },
    ),
    "thread_pushes": (
        "own_server",
        {
            "lost": "At index 1 diff: 'fence' != 'two'",
            "not_woken": "RuntimeError: Non-thread-safe operation invoked",
            "other_loop": "AssertionError: a send in another event loop",
            "twice": "At index 1 diff: 'one' != 'two'",
        },
    ),
    "timer_pushes": ("pushes", {"dies": "{'type': 'weather', 'n': 2}"}),
    "unix_socket": (
        "own_server",
        {
            "mode": "& 511) == 432",
            "stays": "assert not True",
            "twice": "Left contains one more item: 'Hello, Ada'",
        },
    ),
}
BUGS = [(name, bug) for name, (_, reports) in TABLE.items() for bug in reports]


def build_case(name: str) -> dict[str, str]:
    """Return the files of a page's project, with a server of cases/ in it."""
    [page] = [*Path("docs").glob(f"**/{TABLE[name][0]}.md")]
    own = re.compile(r"\w+\.py|tests/test_\w+\.py")
    files = {path: code for path, code in build(page).items() if not own.match(path)}
    files |= {f"{name}.py": (CASES / f"{name}.py").read_text()}
    return files | {f"tests/test_{name}.py": (CASES / f"{name}_tests.py").read_text()}


def test_table_is_complete() -> None:
    names = [path.stem.removesuffix("_tests") for path in sorted(CASES.glob("*.py"))]
    assert names == [name for name in TABLE for _ in ("the server", "its tests")]
    for name, (_, reports) in TABLE.items():
        code = (CASES / f"{name}.py").read_text()
        bugs = re.findall(r'BUG (?:==|!=) "(\w+)"', code)
        assert sorted({*bugs}) == sorted(reports), name


def test_all_projects_are_typed(tmp_path: Path) -> None:
    projects = {f"page_{page.stem}": build(page) for page in PAGES}
    projects |= {f"case_{name}": build_case(name) for name in TABLE}
    assert check_types(projects, tmp_path) == ""


@pytest.mark.parametrize("name", TABLE)
def test_right_server_passes(tmp_path: Path, name: str) -> None:
    timeout = os.environ.get("TIMEOUT") or "5"  # 6 MiB take a while on a busy machine
    returncode, output = run(build_case(name), tmp_path, BUG="", TIMEOUT=timeout)
    assert returncode == 0, output


@pytest.mark.parametrize(("name", "bug"), BUGS)
def test_wrong_server_is_noticed_at_once(tmp_path: Path, name: str, bug: str) -> None:
    returncode, output = run(build_case(name), tmp_path, BUG=bug, TIMEOUT="1")
    assert returncode == 1, output
    assert TABLE[name][1][bug] in output
    [seconds] = re.findall(r" in (\d+\.\d+)s", output)
    assert float(seconds) < 10 * float(os.environ.get("TIMEOUT") or "1"), output
