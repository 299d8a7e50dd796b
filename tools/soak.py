"""Run every step's tests over and over while all cores are kept busy.

Run from the top of the project: `python -m tools.soak RUNS`
"""

import subprocess
import sys
from multiprocessing import Process, cpu_count
from pathlib import Path


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


def main(runs: int, batch: int = 50) -> int:
    """Run each step `runs` times; return 1 at the first failure, and show it."""
    for _ in range(2 * cpu_count()):
        Process(target=spin, daemon=True).start()
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    steps = sorted(str(step) for step in Path().glob("step*_*"))
    for passed in range(0, runs, batch):
        count = min(batch, runs - passed)
        for step in steps:
            print(
                f"\r{passed} of {runs} runs passed; now {step:20}", end="", flush=True
            )
            repeat = [f"--count={count}", "--repeat-scope=session"]
            result = subprocess.run(
                [*pytest, *repeat, step], check=False, capture_output=True, text=True
            )
            if result.returncode:
                print("", result.stdout, result.stderr, sep="\n")
                return 1
    print(f"\rAll {runs} runs of each of {len(steps)} steps passed on busy cores.")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
