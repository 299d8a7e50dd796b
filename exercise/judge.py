"""Run tests on many wrong servers, and show which ones they notice.

From the top of the project: `python -m exercise.judge TESTS`, with a file or a folder,
`python -m exercise.judge hint 17`, `python -m exercise.judge answer 17`.
Exit code: 0 if all are noticed, 1 if some are not, 2 if it cannot tell.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import unified_diff
from itertools import count
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from time import monotonic
from typing import NamedTuple

HERE = Path(__file__).parent
PYTEST = "-m pytest -x --no-header -o verbosity_test_cases=1 -p no:cacheprovider"
# What pytest prints: "step6_groups/test_server.py::test_a PASSED    [  5%]"
STARTED = re.compile(r"^\S+?::(.+?)(?: [A-Z]+(?: .*)?)? *$", re.MULTILINE)
FAILED = re.compile(r"^\S+?::(.+?) (?:FAILED|ERROR)\b", re.MULTILINE)
CAUSE = re.compile(r"^(?:E   |(?:FAILED|ERROR) .*? - )(.*)", re.MULTILINE)
NO_PORT = re.compile(r"no server on port \d+.*")


class CannotJudgeError(Exception):
    """The tests cannot be judged; the message says why."""


class Wrong(NamedTuple):
    """A wrong server: the right one, with `old` replaced by `new`."""

    number: int
    title: str
    kind: str
    hint: str
    step: int  # the first step in which it can be made
    old: str
    new: str
    noticed_by: str  # the first test of step 6 that fails
    also: Sequence[dict[str, str]] = ()  # more edits
    unnoticed: dict[str, str] | None = None  # steps, each with the reason

    def apply(self, source: str) -> str:
        """Return this server's source, given the right one's."""
        edits = [(self.old, self.new), *((it["old"], it["new"]) for it in self.also)]
        for old, new in edits:
            if source.count(old) != 1:
                raise CannotJudgeError(
                    f"Wrong server {self.number} cannot be made: has server.py changed?"
                    " git restore exercise/server.py undoes it"
                )
            source = source.replace(old, new)
        return source


class Outcome(NamedTuple):
    """The result of a run of the tests."""

    end: int  # pytest's exit code: 0 if all have passed
    test: str  # the first that failed, if there is one
    cause: str = ""
    hung: bool = False


def read_catalogue() -> list[Wrong]:
    """Return all wrong servers."""
    entries = tomllib.loads(HERE.joinpath("wrong_servers.toml").read_text("utf-8"))
    return [Wrong(number, **it) for number, it in enumerate(entries["wrong"], start=1)]


def find_server(tests: Path) -> Path:
    """Return the right server: the one beside the tests, or the exercise's."""
    server = (tests if tests.is_dir() else tests.parent) / "server.py"
    return server if server.exists() else HERE / "server.py"


def run(tests: Path, source: str, port: int, bound: float) -> Outcome:
    """Run the tests in a copy of their folder, for at most `bound` seconds."""
    folder = find_server(tests).parent
    with tempfile.TemporaryDirectory() as top:
        target = Path(top, folder.name)
        copytree(folder, target, ignore=ignore_patterns(".*", "__pycache__"))
        copy(HERE.parent / "pyproject.toml", top)
        target.joinpath("server.py").write_text(source, "utf-8")
        if tests.is_file():
            copy(tests, target)
            target = target / tests.name
        env = os.environ | {"BASE_PORT": str(port), "COLUMNS": "200"}
        args = [sys.executable, *PYTEST.split(), str(target.relative_to(top))]
        try:
            result = subprocess.run(
                args, cwd=top, env=env, capture_output=True, check=False, timeout=bound
            )
        except subprocess.TimeoutExpired as error:
            started = STARTED.findall((error.stdout or b"").decode(errors="replace"))
            return Outcome(1, started[-1] if started else "No test", hung=True)
    log = (result.stderr + result.stdout).decode(errors="replace")
    if no_port := NO_PORT.search(log):
        raise CannotJudgeError(f"The server does not start: {no_port[0]}")
    failed, causes = FAILED.search(log), CAUSE.findall(log)
    test, cause = failed[1] if failed else "", ["", *causes][-1].strip()
    return Outcome(result.returncode, test, cause)


def judge(tests: Path, catalogue: list[Wrong]) -> list[Outcome]:
    """Run the tests on the right server, then on each wrong one, on all cores."""
    if not tests.is_file() and not (tests / "server.py").exists():
        raise CannotJudgeError(f"There is no {tests}, or no server.py in it")
    right = find_server(tests).read_text("utf-8")
    sources = [wrong.apply(right) for wrong in catalogue]
    # Each run has its own ports; the process id keeps two judges apart, mostly.
    base_port = os.environ.get("BASE_PORT") or f"{10 + 2 * (os.getpid() % 10)}000"
    if not base_port.isdecimal():
        raise CannotJudgeError(f"BASE_PORT is not a number: {base_port!r}")
    first = int(base_port)
    start = monotonic()
    outcome = run(tests, right, first, bound=120)
    bound = 10 + 5 * (monotonic() - start)
    if outcome.end == 5:
        raise CannotJudgeError(f"There are no tests in {tests}")
    if outcome.end:
        what = outcome.test or f"Importing {tests}"
        how = "hangs" if outcome.hung else outcome.cause or "pytest says why"
        raise CannotJudgeError(f"{what} fails on the right server: {how}")

    def run_one(source: str, port: int) -> Outcome:
        return run(tests, source, port, bound)

    pool = ThreadPoolExecutor(os.cpu_count())
    outcomes: list[Outcome] = []
    try:
        for outcome in pool.map(run_one, sources, count(first + 20, step=20)):
            outcomes.append(outcome)
            if sys.stderr.isatty():
                print(f"\r{len(outcomes)} of {len(sources)}", end=" ", file=sys.stderr)
    finally:
        pool.shutdown(cancel_futures=True)
        print(end="\r" * sys.stderr.isatty(), file=sys.stderr)
    return outcomes


def show(catalogue: list[Wrong], outcomes: list[Outcome]) -> int:
    """Print which servers are noticed, by which test; return how many are not."""
    pairs = list(zip(catalogue, outcomes, strict=True))
    for test in dict.fromkeys(outcome.test for outcome in outcomes if outcome.end):
        print(test)
        for wrong, outcome in pairs:
            if outcome.end and outcome.test == test:
                hung = " (it hung)" if outcome.hung else ""
                print(f"{wrong.number:5} {wrong.title}{hung}")
    missed = [wrong for wrong, outcome in pairs if not outcome.end]
    print(end="Not noticed\n" if missed else "")
    for kind in dict.fromkeys(wrong.kind for wrong in missed):
        numbers = [str(wrong.number) for wrong in missed if wrong.kind == kind]
        print(f"      {kind}: {', '.join(numbers)}")
    print(f"\n{len(pairs) - len(missed)} of {len(pairs)} wrong servers are noticed.")
    if missed:
        print(f"What does one of them do? make hint HINT={missed[0].number}")
    else:
        print("All of them, to read: docs/wrong_servers.md")
    return len(missed)


def explain(what: str, number: str) -> None:
    """Print a wrong server's hint, or its edit and the test that notices it."""
    catalogue = read_catalogue()
    numbers = [str(wrong.number) for wrong in catalogue]
    if number not in numbers:
        raise CannotJudgeError(f"Name one of 1 to {numbers[-1]}: make {what} HINT=17")
    wrong = catalogue[numbers.index(number)]
    print(f"{number}, {wrong.kind}: {wrong.title}")
    if what == "hint":
        print(wrong.hint)
        return
    right = HERE.joinpath("server.py").read_text("utf-8")
    lines = right.splitlines(), wrong.apply(right).splitlines()
    print(*unified_diff(*lines, "right", "wrong", lineterm=""), sep="\n")
    print(f"\nThe test of step 6 that notices it: {wrong.noticed_by}")


def main(arguments: list[str]) -> int:
    """Return the exit code."""
    try:
        if arguments[0] in ("hint", "answer"):
            explain(*arguments)
            return 0
        catalogue = read_catalogue()
        return 1 if show(catalogue, judge(Path(arguments[0]), catalogue)) else 0
    except CannotJudgeError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
