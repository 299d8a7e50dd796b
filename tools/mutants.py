"""Delete, repeat and swap a server's statements, and show what its tests miss.

mutmut changes conditions, constants, operators and arguments; this does the rest.
Run from the top of the project: `python -m tools.mutants STEP`
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from difflib import unified_diff
from itertools import count
from pathlib import Path

from exercise.judge import run
from tools.readme import find_step, report

EXCUSES = Path(__file__).with_name("mutants.toml")
FIXED = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
)
JUMP = (ast.Return, ast.Raise, ast.Break, ast.Continue)
BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")
BOUND = 60  # seconds that the tests of one step may take; with earlier ones, thrice


def is_left_alone(node: ast.AST) -> bool:
    """Tell whether too much fails without a statement, or nothing ever does."""
    match node:
        case ast.Expr(ast.Constant(str())) | ast.AnnAssign(value=None) | ast.Pass():
            return True
    return isinstance(node, FIXED)


def can_swap(*pair: ast.AST) -> bool:
    """Tell whether two neighbours are statements whose order can make a difference."""
    if any(is_left_alone(x) or not isinstance(x, ast.stmt) for x in pair):
        return False
    calls = any(isinstance(part, ast.Call) for x in pair for part in ast.walk(x))
    return calls and not isinstance(pair[0], JUMP) and not isinstance(pair[1], JUMP)


def change(block: list[ast.AST]) -> Iterator[list[ast.AST]]:
    """Yield a block where a statement, a case or a handler is gone, twice, or later."""
    for at, node in enumerate(block):
        if is_left_alone(node):
            continue
        before, after = block[:at], block[at + 1 :]
        yield [*before, *after] or [ast.Pass()]
        if isinstance(node, ast.With | ast.AsyncWith):
            yield [*before, *node.body, *after]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Await):
            yield [*before, node, node, *after]
        if after and can_swap(node, after[0]):
            yield [*before, after[0], node, *after[1:]]


def compiles(source: str) -> bool:
    """Tell whether a source is a module at all."""
    try:
        compile(source, "", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return False
    return True


def find_mutants(source: str) -> list[str]:
    """Return a module, as `ast.unparse` writes it, and its mutants, each once."""
    source, *program = re.split(r"(?=^if __name__)", source, flags=re.MULTILINE)
    tree = ast.parse(source)
    found = {ast.unparse(tree): None}
    for owner in ast.walk(tree):
        for field in BLOCKS:
            block = getattr(owner, field, None)
            if isinstance(block, list) and not isinstance(owner, ast.ClassDef):
                for new in change(block):
                    setattr(owner, field, new)
                    found[ast.unparse(tree)] = None
                setattr(owner, field, block)
    return ["\n".join([code, *program]) for code in found if compiles(code)]


def show(right: str, wrong: str) -> tuple[str, str]:
    """Return what a mutant changes: to read, and as the list of excuses names it."""
    lines = right.splitlines(), wrong.splitlines()
    shown = list(unified_diff(*lines, lineterm="", n=2))[2:]
    changed = [f"{li[0]} {li[1:].strip()}" for li in shown if li[0] in "+-"]
    return "\n".join(shown), " / ".join(changed)


def main(step: str) -> int:
    """Return 0 when the tests notice every mutant that has no excuse."""
    folder = find_step(int(step))
    right, *mutants = find_mutants(folder.joinpath("server.py").read_text("utf-8"))
    base_port = int(os.environ.get("BASE_PORT") or "10000")

    def is_noticed(mutant: str, port: int) -> bool:
        """Tell whether a test fails: one of the step, or of those before it."""
        if int(step) < 10:
            return bool(run(folder, mutant, port, BOUND).end)
        with suppress(subprocess.TimeoutExpired):
            log = report(
                folder / "server.py", mutant, "-x", base_port=str(port), bound=3 * BOUND
            )
            return not re.search(r"^=+ \d+ passed in", log, re.MULTILINE)
        return True

    if is_noticed(right, base_port):
        print(f"{folder}: a test fails on the right server")
        return 2
    ports = count(base_port + 20, step=20)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        noticed = list(pool.map(is_noticed, mutants, ports))
    missed = [show(right, m) for m, n in zip(mutants, noticed, strict=True) if not n]
    entries = tomllib.loads(EXCUSES.read_text("utf-8")).items()
    excuses = {name for name, it in entries if int(step) <= it.get("until", 99)}
    bare = [shown for shown, name in missed if name not in excuses]
    print(*bare, sep="\n\n", end="\n\n" if bare else "")
    print(f"{folder}: {len(mutants)} mutants, {len(missed)} not noticed,", end=" ")
    print(f"{len(missed) - len(bare)} of them with an excuse")
    return 1 if bare else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
