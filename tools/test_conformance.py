"""Check that tests run on the server that they are said to run on, and on no other."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

ROOMS = import_module("beyond.conformance").ROOMS
BEYOND = Path("beyond")
STEPS = {n: next(BEYOND.glob(f"step{n}_*")) for n in range(9, 14)}
STEP6 = next(Path().glob("step6_*"))
PROGRAM = 'if __name__ == "__main__":\n'
BREAK = """
def create_websocket_server(*_: object, **__: object) -> None:
    raise RuntimeError("this server is broken")


"""
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs tests in a copy of the steps, for a report."""
    for folder in (STEP6, *STEPS.values()):
        ignore = ignore_patterns("__pycache__")
        copytree(folder, tmp_path / folder, ignore=ignore)
    for name in "pyproject.toml", "beyond/conformance.py", "beyond/relay.py":
        Path(tmp_path, name).write_text(Path(name).read_text())
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        options = ["-rA", "-p", "no:cacheprovider", "--noconftest", "-p", "conformance"]
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "--tb=line", *options, *arguments],
            env={**os.environ, "PYTHONPATH": "beyond", "COLUMNS": "200"},
            capture_output=True,
            check=False,
            text=True,
        )
        return ended.stdout + ended.stderr

    return run


def find_folders(last: int) -> list[str]:
    """Return the folder of a step, and those of the steps before it, as make does."""
    return [str(STEPS[last]), *[str(STEPS[n]) for n in STEPS if n < last]]


def find_passed(report: str) -> set[str]:
    """Return the names of the tests that have passed."""
    return {*re.findall(r"^PASSED \S+::(test_\w+)", report, re.MULTILINE)}


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)
def test_rooms_are_what_the_servers_import(step: Path) -> None:
    found, to_read = set[str](), {"server"}
    while to_read:
        found.add(name := to_read.pop())
        source = step.joinpath(f"{name}.py").read_text()
        to_read |= {*re.findall(r"^from \.(\w+) import", source, re.M)} - found
    assert found <= {*ROOMS}
    assert {it.stem for it in step.glob("*.py")} & {*ROOMS} == found


def test_no_earlier_server_is_needed(run: Run) -> None:
    chapter = STEPS[10].joinpath("README.md").read_text()
    for room in ROOMS:
        STEPS[9].joinpath(f"{room}.py").unlink(missing_ok=True)

    report = run(*find_folders(10))

    assert re.search(r"^=+ \d+ passed in", report, re.M), report
    counts = re.search("^tests on step10_bad_clients: .*", report, re.MULTILINE)
    assert counts
    assert f"\n{counts[0]}\n" in chapter


def test_earlier_tests_notice_a_broken_server(run: Run) -> None:
    server = STEPS[12] / "server.py"
    server.write_text(server.read_text().replace(PROGRAM, BREAK + PROGRAM))

    report = run(*find_folders(12), "--deselect", str(STEPS[12]))

    assert "this server is broken" in report
    assert find_passed(report) == set()


def test_processes_are_of_the_broken_server(run: Run) -> None:
    server = STEPS[13] / "server.py"
    broken = f'{PROGRAM}    raise RuntimeError("this server is broken")\n'
    server.write_text(server.read_text().replace(PROGRAM, broken))

    names = "test_processes.py", "more/test_cluster.py"
    tests = [str(STEPS[12] / name) for name in names]
    report = run(str(STEPS[13]), *tests, "--deselect", str(STEPS[13]))

    assert "this server is broken" in report
    alone = {"test_message_right_after_joining", "test_cluster_on_a_port_that_is_taken"}
    assert find_passed(report) == alone  # they start no process


def test_fixtures_of_an_earlier_step_are_refused(run: Run) -> None:
    report = run(*find_folders(11), "-p", f"{STEPS[10].name}.conftest")
    assert "step10_bad_clients.connection" in report
    assert "already imported: use --noconftest" in report


@pytest.mark.parametrize("name", ["my_chat.server", "chat"])
def test_server_of_the_readers(run: Run, name: str) -> None:
    path = Path(name.replace(".", "/") + ".py")
    path.parent.mkdir(exist_ok=True)
    right = STEP6.joinpath("server.py").read_text()
    path.write_text(right)
    report = run(str(STEP6), "--server", name)
    assert re.search(r"^=+ \d+ passed in", report, re.M), report
    assert re.search(f"^tests on {name}: \\d+ of step6_groups$", report, re.M)

    path.write_text(
        right.replace("broadcast(groups[name], text)", "broadcast([], text)")
    )
    report = run(str(STEP6), "--server", name)
    assert re.search(r"^=+ \d+ failed, \d+ passed in", report, re.M), report


def test_servers_that_are_not_there(run: Run) -> None:
    Path("chat.py").touch()
    report = run(str(STEP6), "--server", "nowhere")
    assert "ERROR: cannot import nowhere: No module named 'nowhere'" in report
    report = run(str(STEP6), "--server", "chat")
    assert "cannot import name 'create_websocket_server' from 'chat'" in report
    Path("chat.py").write_text(BREAK)
    report = run(str(STEPS[10]), "--server", "chat")
    assert "No module named 'connection'" in report


@contextmanager
def start_program(*command: str, port: int) -> Iterator[str]:
    """Start a server as a program; yield its address when it listens."""
    environment = {**os.environ, "PORT": str(port), "PYTHONPATH": "beyond"}
    program = subprocess.Popen(
        [sys.executable, "-u", *command], env=environment, stdout=subprocess.PIPE
    )
    try:
        assert program.stdout
        assert b"Running on" in program.stdout.readline()
        yield f"ws://127.0.0.1:{port}"
    finally:
        program.kill()
        program.communicate()


def find_port() -> int:
    """Return a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_server_elsewhere(run: Run) -> None:
    module = f"{STEPS[9].name}.server"
    arguments = [str(STEPS[9]), "-k", "not conversations"]
    with start_program("-m", module, port=find_port()) as url:
        report = run(*arguments, "--server", url)
    assert re.search(r"^=+ \d+ passed, \d+ deselected in", report, re.M), report
    left_out = {
        "test_server_forgets_clients_that_have_gone",
        "test_servers_share_nothing",
    }
    assert not find_passed(report) & left_out

    groups = STEPS[9] / "groups.py"
    right = groups.read_text()
    groups.write_text(right.replace("self.leave(client, group_id)", "pass"))
    with start_program("-m", module, port=find_port()) as url:
        groups.write_text(right)
        report = run(*arguments, "--server", url)
    failed = {*re.findall(r"^FAILED \S+::(\S+)", report, re.MULTILINE)}
    gone = "test_group_without_members_is_deleted"
    assert {f"{gone}[leaves]", f"{gone}[vanishes]"} <= failed
