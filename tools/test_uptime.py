"""Run what has virtual time on a machine that has been up for 30 seconds, or 30 days.

The result must be the same on both: right projects pass, and tasks that a server leaves
behind are noticed.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.test_cases import TABLE, build_case
from tools.test_recipes import PAGES, build, write

OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:anyio"]
LEAVING = Path("docs/recipes/leaving.md")
STEPS = [path.parent.absolute() for path in Path("beyond").glob("step*/test_time.py")]
LEAK = "asyncio.get_running_loop().create_task(asyncio.sleep(7200))"


def leave_task(code: str) -> str:
    """Let a server leave a task behind when a client has gone, asleep for two hours."""
    code, count = re.subn(r"( +)return socket\n", rf"\1{LEAK}\n\g<0>", code)
    assert count == 1
    return code


def write_projects(folder: Path) -> dict[str, int]:
    """Write all projects with virtual time; return what pytest says of each: 0 or 1."""
    projects = {page.stem: build(page) for page in PAGES}
    projects |= {f"case_{name}": build_case(name) for name in TABLE}
    expected = {f"{step}/test_time.py": 0 for step in STEPS}
    for name, files in projects.items():
        if any("virtual_time" in files[path] for path in files if "/test_" in path):
            write(files, folder / name)
            expected[f"{folder}/{name}"] = 0

    files = build(LEAVING)
    write(files | {"shop.py": leave_task(files["shop.py"])}, folder / "leak")
    test = "test_the_others_hear_it_once_if_ada_falls_silent"
    expected[f"{folder}/leak/tests/test_shop.py::{test}"] = 1

    shutil.copy("pyproject.toml", folder)
    test = "test_nobody_else_hears_an_echo_for_an_hour"
    for step in STEPS:
        copy = shutil.copytree(step, folder / step.name)
        server = copy / "server.py"
        server.write_text(leave_task(server.read_text()))
        expected[f"{copy}/test_time.py::{test}"] = 1
    return expected


def find_command(uptime: float) -> list[str]:
    """Return a command that runs another as if the machine had been up so long."""
    offset = f"--monotonic={uptime - time.monotonic():.0f}"
    for user in ([], ["--map-root-user"]):
        command = ["unshare", *user, "--time", offset, "--fork", "--kill-child"]
        clock = [sys.executable, "-c", "import time; print(time.monotonic())"]
        try:
            seconds = subprocess.check_output([*command, *clock], text=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        assert float(seconds) == pytest.approx(uptime, abs=20)
        return command
    pytest.skip("nobody can set the uptime here: that needs Linux, and the rights to")


@pytest.mark.parametrize("uptime", [30, 30 * 24 * 3600], ids=["30 s", "30 days"])
def test_result_is_the_same_at_any_uptime(tmp_path: Path, uptime: float) -> None:
    command, expected = find_command(uptime), write_projects(tmp_path)
    output = subprocess.check_output(
        [*command, sys.executable, "-m", "tools.test_uptime", *expected],
        text=True,
        timeout=300,
    )
    found = re.findall(r"^exit code (\d+): (.*)", output, re.MULTILINE)
    assert {test: int(code) for code, test in found} == expected, output
    leaks = output.count("\nstill running: <coroutine object sleep at")
    assert leaks == 2 * sum(expected.values()), output  # two clients in each test


def main() -> None:
    """Run pytest on each argument, in a process of its own; print the exit codes."""
    pytest.main([*OPTIONS, "--collect-only", __file__])  # imports what all need
    for test in sys.argv[1:]:
        sys.stdout.flush()
        if os.fork() == 0:
            sys.exit(pytest.main([*OPTIONS, test]))
        code = os.waitstatus_to_exitcode(os.wait()[1])
        print(f"exit code {code}: {test}")


if __name__ == "__main__":
    main()
