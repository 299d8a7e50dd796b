"""Change a module in every way Cosmic Ray knows; show each change that no test notices.

Run from the top of the project: `python -m tools.mutants MODULE TESTS...`
"""

import os
import shutil
import sys
import tempfile
import tomllib
from multiprocessing import Pool
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.testing import run_tests
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkItem, WorkResult

MODULE = Path(sys.argv[1])
COMMAND = (
    f"{sys.executable} -m pytest -x -q -p no:cacheprovider {' '.join(sys.argv[2:])}"
)
TIMEOUT = 20  # seconds; tests that take longer have noticed the mutant
EQUIVALENT = tomllib.loads(Path("tools/equivalent_mutants.toml").read_text())["mutant"]


def find_mutants(session: Path) -> list[WorkItem]:
    """Return the mutants of the module, but for those of its `__main__` block."""
    code = MODULE.read_text().partition('if __name__ == "__main__":')[0]
    with use_db(session) as database:
        init([MODULE], database, {})
        mutants = sorted(database.work_items, key=lambda m: m.mutations[0].start_pos)
    return [m for m in mutants if m.mutations[0].start_pos[0] <= code.count("\n")]


def enter_copy(folder: str) -> None:
    """Move this process to a copy of the project, with ports of its own."""
    copy = Path(folder, str(os.getpid()))
    shutil.copytree(".", copy, ignore=shutil.ignore_patterns(".*"))
    os.chdir(copy)
    os.environ["BASE_PORT"] = str(10000 + 100 * (os.getpid() % 200))


def run_tests_on(mutant: WorkItem) -> WorkResult:
    """Run the tests on a mutant."""
    return mutate_and_test(mutant.mutations, COMMAND, TIMEOUT)


def is_equivalent(diff: str) -> bool:
    """Tell whether the list of equivalent mutants has this one."""
    lines = diff.splitlines()[3:]
    old, new = (next(li[1:].strip() for li in lines if li[:1] == s) for s in "-+")
    return any(old == e["old"] and new == e.get("new", new) for e in EQUIVALENT)


def main() -> int:
    """Return 0 when the tests notice every mutant, 1 otherwise."""
    outcome, output = run_tests(COMMAND, TIMEOUT)
    if outcome is not TestOutcome.SURVIVED:
        print("The tests fail before anything is changed:", output, sep="\n")
        return 1
    survivors: list[str] = []
    equivalent = 0
    with tempfile.TemporaryDirectory() as folder:
        mutants = find_mutants(Path(folder, "session.sqlite"))
        with Pool(None, enter_copy, [folder]) as pool:
            for count, result in enumerate(pool.imap(run_tests_on, mutants), start=1):
                print(f"\r{count} of {len(mutants)} mutants", end="", flush=True)
                if result.test_outcome is TestOutcome.KILLED:
                    continue
                if result.diff and is_equivalent(result.diff):
                    equivalent += 1
                else:
                    survivors.append(result.diff or result.output)
    print("", *survivors, sep="\n")
    counted = len(mutants) - equivalent
    noticed = counted - len(survivors)
    print(f"{MODULE}: the tests notice {noticed} of {counted} mutants", end="")
    print(f" ({equivalent} more behave as the original does): {noticed / counted:.0%}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
