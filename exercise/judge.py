"""Run tests on many wrong servers, and show which ones they notice.

From the top of the project: `python -m exercise.judge TESTS`, with a file or a folder,
and `44 45` for two of the servers, or `--all` to list what each test notices;
`python -m exercise.judge hint 17`, `python -m exercise.judge answer 17`.
Exit code: 0 if all are noticed, 1 if some are not, 2 if it cannot tell.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from difflib import unified_diff
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from time import monotonic
from typing import NamedTuple

CATALOGUE = Path(__file__).with_name("wrong_servers.toml")
RIGHT = Path(__file__).parent.parent / "step6_groups"
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
                    f" git restore {RIGHT.name}/server.py undoes it"
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
    entries = tomllib.loads(CATALOGUE.read_text("utf-8"))
    return [Wrong(number, **it) for number, it in enumerate(entries["wrong"], start=1)]


def find_server(tests: Path) -> Path:
    """Return the right server: the one beside the tests, or step 6's."""
    server = (tests if tests.is_dir() else tests.parent) / "server.py"
    return server if server.exists() else RIGHT / "server.py"


def run(tests: Path, source: str, port: int, bound: float) -> Outcome:
    """Run the tests for at most `bound` seconds, in a copy of their folder.

    If that has no server, they stand beside step 6's, and its utilities.
    """
    folder = tests if tests.is_dir() else tests.parent
    right = find_server(tests).parent
    with tempfile.TemporaryDirectory() as top:
        target = Path(top, right.name)
        for name in ("pyproject.toml", "conftest.py"):
            copy(RIGHT.parent / name, top)
        if right == folder:
            copytree(folder, target, ignore=ignore_patterns(".*", "__pycache__"))
        else:
            target.mkdir()
            copied = [RIGHT / "__init__.py", RIGHT / "utils.py", *folder.glob("*.py")]
            for path in copied:
                copy(path, target)
        target.joinpath("server.py").write_text(source, "utf-8")
        if tests.is_file():
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
    if not tests.exists():
        raise CannotJudgeError(f"There is no {tests}")
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

    pool = ThreadPoolExecutor(os.cpu_count())
    runs = [
        pool.submit(run, tests, source, first + 20 * number, bound)
        for number, source in enumerate(sources, start=1)
    ]
    try:
        await_all(runs)
    finally:
        pool.shutdown(cancel_futures=True)
    return [it.result() for it in runs]


def await_all(runs: list[Future[Outcome]]) -> None:
    """Wait, and say how far it is: at once on a terminal, else every ten seconds."""
    at_once = sys.stderr.isatty()
    pending = {*runs}
    while pending:
        done, pending = wait(pending, 0.2 if at_once else 10, FIRST_EXCEPTION)
        for it in done:
            it.result()  # raises what the run has raised
        if at_once or pending:
            far = f"{len(runs) - len(pending)} of {len(runs)}"
            end = " \r" if at_once else "\n"
            print(far, end=end, file=sys.stderr, flush=True)


def show(catalogue: list[Wrong], outcomes: list[Outcome], every: bool = False) -> int:
    """Print how many servers each test notices, or which; return how many none does."""
    pairs = list(zip(catalogue, outcomes, strict=True))
    noticed = [outcome.test for outcome in outcomes if outcome.end]
    print(end="Noticed (ALL=yes: which)\n" if noticed and not every else "")
    for test, number in Counter(noticed).items():
        print(test if every else f"{number:5} by {test}")
        for wrong, outcome in pairs if every else ():
            if outcome.end and outcome.test == test:
                hung = " (it hung)" if outcome.hung else ""
                print(f"{wrong.number:5} {wrong.title}{hung}")
    missed = [wrong for wrong, outcome in pairs if not outcome.end]
    print(end="Not noticed\n" if missed else "")
    for kind in dict.fromkeys(wrong.kind for wrong in missed):
        numbers = [str(wrong.number) for wrong in missed if wrong.kind == kind]
        print(f"      {kind}: {', '.join(numbers)}")
    print(f"\n{len(noticed)} of {len(pairs)} wrong servers are noticed.")
    if missed:
        print(f"What does one of them do? make hint HINT={missed[0].number}")
    return len(missed)


def choose(what: str, numbers: Sequence[str]) -> list[Wrong]:
    """Return the wrong servers of these numbers."""
    catalogue = {str(wrong.number): wrong for wrong in read_catalogue()}
    if not numbers or not {*numbers} <= {*catalogue}:
        raise CannotJudgeError(f"Name one of 1 to {len(catalogue)}: make {what}=17")
    return [catalogue[number] for number in numbers]


def explain(what: str, wrong: Wrong) -> None:
    """Print a wrong server's hint, or its edit and the test that notices it."""
    print(f"{wrong.number}, {wrong.kind}: {wrong.title}")
    if what == "hint":
        print(wrong.hint)
        return
    right = RIGHT.joinpath("server.py").read_text("utf-8")
    lines = right.splitlines(), wrong.apply(right).splitlines()
    print(*unified_diff(*lines, "right", "wrong", lineterm=""), sep="\n")
    print(f"\nThe test of step 6 that notices it: {wrong.noticed_by}")


def main(arguments: list[str]) -> int:
    """Return the exit code."""
    what, *numbers = [it for it in arguments if it != "--all"]
    try:
        if what in ("hint", "answer"):
            for wrong in choose(f"{what} HINT", numbers):
                explain(what, wrong)
            return 0
        catalogue = choose("exercise ONLY", numbers) if numbers else read_catalogue()
        outcomes = judge(Path(what), catalogue)
        if show(catalogue, outcomes, bool(numbers) or "--all" in arguments):
            return 1
        print(end="" if numbers else "All of them, to read: docs/wrong_servers.md\n")
        return 0
    except CannotJudgeError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
