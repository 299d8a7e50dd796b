"""Hold a step's own tests to the catalogue of wrong servers of `exercise/`.

Run from the top of the project: `python -m tools.wrong STEP`
"""

import sys

from exercise.judge import CannotJudgeError, judge, read_catalogue
from tools.readme import find_step

TESTS = {8: "test_conversations.py"}  # of the other steps, all tests


def main(step: int) -> int:
    """Return 0 when the tests notice every wrong server but those that are listed."""
    catalogue = [wrong for wrong in read_catalogue() if wrong.step <= step]
    tests = find_step(step) / TESTS.get(step, "")
    try:
        outcomes = judge(tests, catalogue)
    except CannotJudgeError as error:
        print(error, file=sys.stderr)
        return 2
    problems = []
    excused = 0
    for wrong, outcome in zip(catalogue, outcomes, strict=True):
        listed = str(step) in (wrong.unnoticed or {})
        excused += listed
        if not outcome.end and not listed:
            problems.append(f"{wrong.number}, {wrong.title}: not noticed")
        elif outcome.end and listed:
            problems.append(f"{wrong.number}, {wrong.title}: noticed, though listed")
        elif step == 6 and outcome.test != wrong.noticed_by:
            by = f"noticed by {outcome.test}, not by {wrong.noticed_by}"
            problems.append(f"{wrong.number}, {wrong.title}: {by}")
    print(*problems, sep="\n", end="\n" if problems else "")
    missed = sum(not outcome.end for outcome in outcomes)
    print(f"{len(catalogue)} wrong servers, {missed} not noticed, {excused} listed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
