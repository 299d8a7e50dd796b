"""Run tests on many wrong servers: which ones do they notice?

From the top of the project: `python -m exercise.judge [TESTS]`, where TESTS is a file or
a folder, `python -m exercise.judge hint 17`, `python -m exercise.judge answer 17`.
Ends with 0 when all are noticed, with 1 when some are not, with 2 when it cannot tell.
"""

import difflib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from shutil import copytree, ignore_patterns
from time import monotonic
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PYTEST = "-m pytest -x --no-header --tb=short -o verbosity_test_cases=1"
STARTED = r"^\S+?::(.+?)(?: [A-Z]+(?: .*)?)?$"  # test_server.py::test_x PASSED [ 5%]
FAILED = r"^\S+?::(.+?) (?:FAILED|ERROR)\b"
CAUSE = r"^(?:FAILED|ERROR) .*? - (.*)"  # in the summary


class CannotJudgeError(Exception):
    """The tests say nothing about wrong servers, for this reason."""


class Wrong(NamedTuple):
    """A wrong server, as the catalogue describes it."""

    number: int
    title: str
    kind: str  # what goes wrong, or when
    hint: str
    step: int  # the first in which it can be made
    noticed_by: str  # a test of step 6
    edits: list[dict[str, str]]  # lines `old` stand there as `new`
    unnoticed: dict[str, str]  # the steps that do not notice it, with the reason

    def apply(self, source: str) -> str:
        """Return the right server's source with the edits."""
        for edit in self.edits:
            if source.count(edit["old"]) != 1:
                raise CannotJudgeError(
                    f"Wrong server {self.number} cannot be made: has server.py changed?"
                )
            source = source.replace(edit["old"], edit["new"])
        return source


class Outcome(NamedTuple):
    """What came of the tests: `test` is the first that failed, if there is one."""

    end: int  # pytest's exit code
    test: str
    log: str
    hung: bool = False

    @property
    def cause(self) -> str:
        """Return why the test failed, in a line."""
        found = re.search(CAUSE, self.log, re.MULTILINE)
        return found[1] if found else (self.log.strip().splitlines() or ["?"])[-1]


def read_catalogue() -> list[Wrong]:
    """Return all wrong servers."""
    with HERE.joinpath("wrong_servers.toml").open("rb") as file:
        entries: list[dict[str, Any]] = tomllib.load(file)["wrong"]
    catalogue = []
    for number, entry in enumerate(entries, start=1):
        first = {"old": entry.pop("old"), "new": entry.pop("new")}
        edits = [first, *entry.pop("also", [])]
        unnoticed = entry.pop("unnoticed", {})
        catalogue.append(Wrong(number, edits=edits, unnoticed=unnoticed, **entry))
    return catalogue


def find_server(tests: Path) -> Path:
    """Return the right server: the one beside the tests, or else the exercise's."""
    server = (tests if tests.is_dir() else tests.parent) / "server.py"
    return server if server.exists() else HERE / "server.py"


def run(tests: Path, source: str, port: int, bound: float | None = None) -> Outcome:
    """Run the tests on a server, up to the first failure, for `bound` seconds."""
    folder = find_server(tests).parent
    with tempfile.TemporaryDirectory() as top:
        copy = Path(top, folder.name)
        copytree(folder, copy, ignore=ignore_patterns(".*", "__pycache__"))
        Path(top, "pyproject.toml").write_bytes(Path("pyproject.toml").read_bytes())
        copy.joinpath("server.py").write_text(source, "utf-8")
        if tests.is_file():
            copy.joinpath(tests.name).write_bytes(tests.read_bytes())
        what = folder.name if tests.is_dir() else f"{folder.name}/{tests.name}"
        own = {"BASE_PORT": str(port), "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            result = subprocess.run(
                [sys.executable, *PYTEST.split(), "-p", "no:cacheprovider", what],
                cwd=top,
                env=os.environ | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=bound,
            )
        except subprocess.TimeoutExpired as error:
            log = (error.stdout or b"").decode(errors="replace")
            started = re.findall(STARTED, log, re.MULTILINE)
            return Outcome(1, started[-1] if started else "no test", log, hung=True)
    log = result.stdout.decode(errors="replace")
    if "no server on port" in log:
        problem = re.search(r"no server on port.*", log)
        raise CannotJudgeError(f"The server does not start: {problem and problem[0]}")
    failed = re.search(FAILED, log, re.MULTILINE)
    return Outcome(result.returncode, failed[1] if failed else "", log)


def judge(tests: Path, catalogue: list[Wrong]) -> list[Outcome]:
    """Run the tests on the right server, then on each wrong one, on all cores."""
    if not tests.exists():
        raise CannotJudgeError(f"There is no {tests}")
    right = find_server(tests).read_text("utf-8")
    sources = [wrong.apply(right) for wrong in catalogue]
    # Each run has ports of its own; two judges at the same time most likely have, too.
    first = int(os.environ.get("BASE_PORT") or 10_000 + 2_000 * (os.getpid() % 10))

    start = monotonic()
    outcome = run(tests, right, first, bound=120)
    bound = 10 + 5 * (monotonic() - start)
    if outcome.hung:
        raise CannotJudgeError(f"{outcome.test} hangs on the right server")
    if outcome.end == 1:
        raise CannotJudgeError(
            f"{outcome.test} fails on the right server: {outcome.cause}"
        )
    if outcome.end == 5:
        raise CannotJudgeError(f"There are no tests in {tests}")
    if outcome.end:
        raise CannotJudgeError(f"Cannot run {tests}: {outcome.cause}")

    pool = ThreadPoolExecutor(os.cpu_count())
    ports = count(first + 20, 20)
    outcomes: list[Outcome] = []
    try:
        for outcome in pool.map(lambda *it: run(tests, *it, bound), sources, ports):
            outcomes.append(outcome)
            if sys.stderr.isatty():
                print(f"\r{len(outcomes)} of {len(sources)}", end=" ", file=sys.stderr)
    finally:
        pool.shutdown(cancel_futures=True)
        if sys.stderr.isatty():
            print("\r", end="", file=sys.stderr)
    return outcomes


def show(catalogue: list[Wrong], outcomes: list[Outcome]) -> bool:
    """Print which servers are noticed, by which test; tell whether all are."""
    pairs = list(zip(catalogue, outcomes, strict=True))
    for test in dict.fromkeys(outcome.test for outcome in outcomes if outcome.end):
        print(test)
        for wrong, outcome in pairs:
            if outcome.end and outcome.test == test:
                print(f"{wrong.number:5} {wrong.title}{' (hung)' * outcome.hung}")
    missed = [wrong for wrong, outcome in pairs if not outcome.end]
    if missed:
        print("Not noticed:")
    for wrong in missed:
        print(f"{wrong.number:5} {wrong.kind}")
    total = len(catalogue)
    print(f"\n{total - len(missed)} of {total} wrong servers are noticed.", end=" ")
    print(f"Stuck? make hint HINT={missed[0].number}" if missed else "All of them!")
    return not missed


def explain(what: str, number: str) -> None:
    """Print a wrong server's hint, or its edit and the test of step 6 that notices it."""
    catalogue = read_catalogue()
    if number not in map(str, range(1, len(catalogue) + 1)):
        raise CannotJudgeError(
            f"Choose one from 1 to {len(catalogue)}: make hint HINT=17"
        )
    wrong = catalogue[int(number) - 1]
    print(f"{wrong.number}, {wrong.kind}: {wrong.title}")
    if what == "hint":
        print(wrong.hint)
        return
    right = HERE.joinpath("server.py").read_text("utf-8")
    texts = right.splitlines(), wrong.apply(right).splitlines()
    print(*difflib.unified_diff(*texts, "right", "wrong", lineterm=""), sep="\n")
    print(f"\nStep 6 notices it: {wrong.noticed_by}")


def main(arguments: list[str]) -> int:
    """Return 0 when all wrong servers are noticed, 1 when some are not, 2 for neither."""
    try:
        if arguments[:1] in (["hint"], ["answer"]):
            explain(arguments[0], "".join(arguments[1:]))
            return 0
        tests = Path(*arguments) if arguments else HERE / "test_server.py"
        catalogue = read_catalogue()
        return 0 if show(catalogue, judge(tests, catalogue)) else 1
    except CannotJudgeError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
