"""Change a module in small ways, one at a time; show each change that no test notices.

Run from the top of the project: `python -m tools.mutants MODULE TESTS...`
"""

import argparse
import ast
import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple, TypeVar
from xml.etree import ElementTree

LISTED = Path(__file__).with_name("equivalent_mutants.toml")
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
# What is neither deleted nor moved: without these names too much fails too soon.
FIXED = FUNCTION | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Pass
JUMP = ast.Return | ast.Raise | ast.Break | ast.Continue
CALLERS = ast.Expr | ast.Await | ast.Raise | ast.withitem | FUNCTION
# What noticed a mutant often notices the next one, too: it is run first.
PYTEST = "-m pytest -x -q --failed-first --junitxml=report.xml"
PAIRS = """
    Add Sub, Mult Div, Mult FloorDiv, Mod FloorDiv, BitAnd BitOr, And Or, Eq NotEq,
    Is IsNot, In NotIn, Lt LtE, Lt GtE, Gt GtE, Gt LtE, Break Continue
"""

Node = TypeVar("Node", bound=ast.AST)
# A kind of change is a function of a node, the node that holds it, and the field that
# it is in; it yields what can take its place: nothing, another node, or several.
Changes = Iterator[Sequence[ast.AST]]


def vary(node: Node, **fields: object) -> Node:
    """Return a copy of a node with other values in some fields."""
    new = type(node)(**{**dict(ast.iter_fields(node)), **fields})
    return ast.copy_location(new, node)


def drop_each(node: Node, *fields: str) -> Iterator[Node]:
    """Yield a node without the first, the second... item of some fields."""
    lists = {field: list(getattr(node, field)) for field in fields}
    for at in range(len(lists[fields[0]])):
        yield vary(node, **{name: x[:at] + x[at + 1 :] for name, x in lists.items()})


def holds(node: ast.AST, *kinds: type[ast.AST]) -> bool:
    """Tell whether there is a node of such a kind in a node."""
    return any(isinstance(part, kinds) for part in ast.walk(node))


def names(node: ast.AST) -> set[str]:
    """Return the names that a pattern gives to what it finds."""
    return {getattr(part, "name", None) or "" for part in ast.walk(node)}


def change_statement(node: ast.AST, owner: ast.AST, _: str) -> Changes:
    """Delete a statement; repeat it, where that can make a difference."""
    if not isinstance(node, ast.stmt) or isinstance(node, FIXED):
        return
    last = isinstance(owner, FUNCTION) and owner.body[-1] is node
    if not (last and isinstance(node, ast.Return)):  # it would return None all the same
        yield []
    match node:
        case ast.Expr(ast.Await(call)):
            yield [node, node]
            yield [ast.Expr(call)]
        case ast.Expr() | ast.AugAssign() | ast.For():
            yield [node, node]
        case ast.Assign() | ast.AnnAssign() if holds(node, ast.Await):
            yield [node, node]
        case ast.Return(ast.expr() as value) if ast.unparse(value) != "None":
            yield [ast.Return()]


def change_loop(node: ast.AST, *_: object) -> Changes:
    """End a loop after its first round; leave that round out."""
    match node:
        case (ast.For() | ast.AsyncFor() | ast.While()) as loop:
            if not isinstance(loop.body[-1], JUMP):
                yield [vary(loop, body=[*loop.body, ast.Break()])]
    if isinstance(node, ast.For):
        rest = ast.parse(f"list({ast.unparse(node.iter)})[1:]", mode="eval").body
        yield [vary(node, iter=rest)]


def change_block(node: ast.AST, *_: object) -> Changes:
    """Take the `with`, the `except` or the `finally` from what is in it."""
    match node:
        case ast.With(items, body) | ast.AsyncWith(items, body):
            if not any(item.optional_vars for item in items):
                yield body
        case ast.Try(body, handlers, orelse, final):
            if final:
                rest = [vary(node, finalbody=[])] if handlers else body
                yield [*rest, *final]  # not after a failure
                if len(final) > 1:  # the deletion of the only statement is the same
                    yield rest
            for handler in handlers:
                others = [other for other in handlers if other is not handler]
                bare = {} if others else {"body": [*body, *orelse], "orelse": []}
                left = vary(node, handlers=others, **bare)
                yield [left] if others or final else left.body


def change_condition(node: ast.AST, owner: ast.AST, field: str) -> Changes:
    """Negate a condition; take it for true or false."""
    if field not in {"test", "guard", "ifs"} or isinstance(node, ast.Constant):
        return
    # A comparison is negated by its operator, and a `not` by leaving it out.
    if isinstance(node, ast.expr) and not isinstance(node, ast.Compare | ast.UnaryOp):
        yield [ast.UnaryOp(ast.Not(), node)]
    yield [ast.Constant(value=True)] if field == "test" else []
    if getattr(owner, "orelse", None):  # without an `else` that is a deletion
        yield [ast.Constant(value=False)]


def change_constant(node: ast.AST, owner: ast.AST, _: str) -> Changes:
    """Replace a constant."""
    new: list[Any] = []
    match node:
        case ast.Constant(bool(flag)):
            new = [not flag]
        case ast.Constant(int(number) | float(number)):
            new = [number + 1, number - 1, 0] if number % 1 == 0 else [number + 1, 0]
        case ast.Constant(str()) if not isinstance(owner, ast.JoinedStr):
            in_pattern = isinstance(owner, ast.MatchValue | ast.MatchMapping)
            new = ["other"] if in_pattern else ["other", ""]
        case ast.Constant(bytes()):
            new = [b"other", b""]
        case ast.JoinedStr() if not isinstance(owner, ast.FormattedValue):
            new = [""]
    yield from ([ast.Constant(value)] for value in new)


def change_operator(node: ast.AST, owner: ast.AST, _: str) -> Changes:
    """Replace an operator; leave out what an operator or a function does."""
    for first, second in re.findall(r"(\w+) (\w+)", PAIRS):
        names = {first: second, second: first}
        if type(node).__name__ in names:
            yield [getattr(ast, names[type(node).__name__])()]
    match node:
        case ast.BinOp(left, operator, right):
            yield [left]
            if isinstance(operator, ast.BitOr):
                yield [right]
        case ast.UnaryOp(_, kept) | ast.Subscript(kept, ast.Slice()):
            yield [kept]
        case ast.Call(function, arguments, []) if not isinstance(owner, CALLERS):
            match function, arguments:
                case (ast.Name(), [kept]) | (ast.Attribute(kept), []):
                    yield [
                        kept
                    ]  # `clients` for `list(clients)`, `text.strip()`: `text`


def change_items(node: ast.AST, owner: ast.AST, field: str) -> Changes:
    """Drop an argument, an item, a decorator, one side of an `and` or `or`."""
    match owner, field, node:
        case ast.Call(ast.Name("suppress"), [_]), _, _:
            pass  # change_block takes the whole `with` away
        case ((ast.List() | ast.Tuple() | ast.Set()), "elts", _):
            if not isinstance(getattr(owner, "ctx", None), ast.Store):
                yield []
        case (
            (ast.Call(), "args" | "keywords", _)
            | (ast.BoolOp(), "values", _)
            | (_, "decorator_list", _)
            | (ast.JoinedStr(), "values", ast.FormattedValue())
            | (ast.With(items=[_, _, *_]), _, ast.withitem(optional_vars=None))
            | (ast.AsyncWith(items=[_, _, *_]), _, ast.withitem(optional_vars=None))
        ):
            yield []
    if isinstance(node, ast.Dict):
        yield from ([fewer] for fewer in drop_each(node, "keys", "values"))


def change_pattern(node: ast.AST, owner: ast.AST, field: str) -> Changes:
    """Drop a case, an alternative, a check within a pattern."""
    if isinstance(owner, ast.MatchOr) or (
        isinstance(owner, ast.Match) and field == "cases" and len(owner.cases) > 1
    ):
        yield []
    match node:
        case ast.MatchClass(_, inner, [], []) if len(inner) < 2:
            yield inner or [ast.MatchAs()]
        case ast.MatchMapping():
            for fewer in drop_each(node, "keys", "patterns"):
                if names(fewer) == names(node):
                    yield [fewer]


KINDS = [value for name, value in list(globals().items()) if name[:7] == "change_"]


def can_swap(*pair: object) -> bool:
    """Tell whether it can make a difference to swap two neighbours."""
    kept = FIXED | JUMP | ast.Global | ast.Nonlocal
    statements = [
        x for x in pair if isinstance(x, ast.stmt) and not isinstance(x, kept)
    ]
    return len(statements) == 2 and any(holds(x, ast.Call) for x in statements)


def is_left_alone(node: ast.AST, field: str) -> bool:
    """Tell whether a node is only read by people or type checkers, or not by tests."""
    match node:
        case ast.Expr(ast.Constant(str())) | ast.AnnAssign(value=None):
            return True
        case ast.If(ast.Compare(ast.Name("__name__"))):
            return True
    return field in {"annotation", "returns", "type_params"}


def change_each(
    owner: ast.AST, function: str = "", line: int = 0
) -> Iterator[tuple[str, int]]:
    """Make every change to a tree in turn; while it stands, yield function and line."""
    if isinstance(owner, FUNCTION | ast.ClassDef):
        function = owner.name
    for field, value in ast.iter_fields(owner):
        nodes = value if isinstance(value, list) else [value]
        for at, node in enumerate(nodes):
            if not isinstance(node, ast.AST) or is_left_alone(node, field):
                continue
            here = getattr(getattr(node, "pattern", node), "lineno", line)
            news = [new for change in KINDS for new in change(node, owner, field)]
            changed = [[*nodes[:at], *new, *nodes[at + 1 :]] for new in news]
            if can_swap(*nodes[at : at + 2]):
                changed += [[*nodes[:at], nodes[at + 1], node, *nodes[at + 2 :]]]
            for new in changed:
                if isinstance(value, list):  # a block has at least one statement
                    empty = [ast.Pass()] if isinstance(node, ast.stmt) else []
                    setattr(owner, field, new or empty)
                else:
                    setattr(owner, field, new[0] if new else None)
                yield function, here
            setattr(owner, field, value)
            yield from change_each(node, function, here)


class Mutant(NamedTuple):
    """A module with one change: lines `old` of a function stand there as `new`."""

    code: str
    line: int
    function: str
    old: str
    new: str


def find_difference(old: list[str], new: list[str]) -> tuple[str, str]:
    """Return what differs, with `...` for longer parts that are alike within it."""
    pairs = enumerate(zip_longest(old, new))
    start = next((at for at, (first, second) in pairs if first != second), 0)
    while min(len(old), len(new)) > start and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    if start == len(old) > 0:  # something is added: name the line before it
        start -= 1
    old, new = old[start:], new[start:]
    matches = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    for i, j, size in reversed(matches):
        if size > 1:
            old[i : i + size] = new[j : j + size] = ["..."]
    return "\n".join(old), "\n".join(new)


def find_mutants(source: str) -> list[Mutant]:
    """Return every mutant of a module, each once."""
    tree = ast.parse(source)
    original = ast.unparse(tree)
    found: dict[str, Mutant] = {}
    for function, line in change_each(tree):
        code = ast.unparse(tree)
        if code not in {original, *found}:
            lines = [[li.strip() for li in x.splitlines()] for x in (original, code)]
            found[code] = Mutant(code, line, function, *find_difference(*lines))
    return list(found.values())


class Outcome(NamedTuple):
    """What came of running the tests."""

    kind: str  # "passed", "noticed", "hung", or "stillborn": no test ran
    test: str = ""  # the first that failed
    log: str = ""
    doubtful: bool = False  # there may be another reason than the mutant


class BrokenTestsError(Exception):
    """The tests do not pass on the unmodified module."""


class Copy:
    """A copy of the project, with ports of its own, to run the tests in."""

    def __init__(self, folder: Path, number: int, options: argparse.Namespace) -> None:
        """Copy the project to a folder."""
        shutil.copytree(".", folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        self.folder, self.options = folder, options
        self.original = ast.unparse(ast.parse(options.module.read_text("utf-8")))
        # Unless told which, another run at the same time most likely has other ports.
        start = os.environ.get("BASE_PORT") or 10000 + 200 * (os.getpid() % 100)
        base_port = int(start) + 200 * number
        # What is compiled would stand for a mutant of the same size and second.
        own = {"BASE_PORT": str(base_port), "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment = os.environ | own

    async def judge(self, code: str) -> Outcome:
        """Run the tests on a mutant; where in doubt, on the unmodified module, too."""
        outcome = await self.run(code)
        if outcome.doubtful:
            await self.check()
            if outcome.kind != "hung":
                return await self.run(code)
        return outcome

    async def check(self) -> None:
        """Raise `BrokenTestsError` unless the tests pass on the unmodified module."""
        outcome = await self.run(self.original)
        if outcome.kind != "passed":
            raise BrokenTestsError(f"{outcome.kind} {outcome.test}\n{outcome.log}")

    async def run(self, code: str) -> Outcome:
        """Run the tests on a module, one argument after the other, up to a failure."""
        (self.folder / self.options.module).write_text(code, "utf-8")
        for tests in self.options.tests:
            outcome = await self.run_pytest(tests)
            if outcome.kind != "passed":
                return outcome
        return Outcome("passed")

    async def run_pytest(self, tests: str) -> Outcome:
        """Run the tests of one file or folder."""
        report, log = self.folder / "report.xml", self.folder / "report.txt"
        report.unlink(missing_ok=True)
        with log.open("w") as output:
            pytest = await asyncio.create_subprocess_exec(
                *(sys.executable, *PYTEST.split(), tests),
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(self.options.timeout):
                code = await pytest.wait()
        except TimeoutError:
            return Outcome("hung", log=log.read_text("utf-8"), doubtful=True)
        finally:  # what a mutant leaves running would keep its ports
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pytest.pid, signal.SIGKILL)
            await pytest.wait()
        return judge_report(code, report, log.read_text("utf-8"))


def judge_report(code: int, report: Path, log: str) -> Outcome:
    """Return what pytest's exit code, its report and its output amount to."""
    if code == 0:
        return Outcome("passed")
    cases = ElementTree.parse(report).iter("testcase") if code == 1 else []  # noqa: S314
    for case in cases:
        for failure in (*case.iter("failure"), *case.iter("error")):
            if failure.get("message") != "collection failure":
                doubtful = bool(re.search("already in use|to bind on", log))
                return Outcome("noticed", case.get("name", ""), log, doubtful)
    return Outcome("stillborn", log=log, doubtful=True)


async def judge_all(
    mutants: list[Mutant], options: argparse.Namespace, folder: Path
) -> list[Outcome]:
    """Return what comes of each mutant, with a copy of the project for each core."""
    outcomes: dict[int, Outcome] = {}
    todo = iter(enumerate(mutants))

    async def work(copy: Copy) -> None:
        for number, mutant in todo:
            outcomes[number] = await copy.judge(mutant.code)
            if sys.stdout.isatty():
                print(f"\r{len(outcomes)} of {len(mutants)}\r", end="", flush=True)

    numbers = range(os.cpu_count() or 1)
    copies = [Copy(folder / str(number), number, options) for number in numbers]
    await asyncio.gather(*[copy.check() for copy in copies])
    await asyncio.gather(*[work(copy) for copy in copies])
    return [outcomes[number] for number in range(len(mutants))]


def show(
    mutants: list[Mutant], outcomes: list[Outcome], options: argparse.Namespace
) -> bool:
    """Print what no test notices, and the numbers; tell whether all is well."""
    entries = [
        {"function": "", **entry, "list": name}
        for name, entries in tomllib.loads(LISTED.read_text("utf-8")).items()
        for entry in entries
        if options.module.match(entry["module"])
    ]
    used = []
    counts = Counter(outcome.kind for outcome in outcomes)
    for mutant, outcome in zip(mutants, outcomes, strict=True):
        if outcome.kind != "passed":
            continue
        key = {name: getattr(mutant, name) for name in ("function", "old", "new")}
        found = [entry for entry in entries if key.items() <= entry.items()]
        used += found
        counts[found[0]["list"] if found else "missed"] += 1
        if not found:
            shown = [f"{options.module}:{mutant.line}: in {mutant.function or 'no'}()"]
            shown += [indent(mutant.old, "-   "), indent(mutant.new, "+   ")]
            if options.entries:
                lines = {"module": str(options.module), **key, "why": ""}
                shown = [f"{name} = {json.dumps(lines[name])}" for name in lines]
                shown.insert(0, "[[equivalent]]")
            print(*filter(None, shown), "", sep="\n")
    idle = [entry for entry in entries if entry not in used]
    for entry in idle:
        print(f"{LISTED.name}: no mutant is this one, or it is noticed: {entry}\n")
    if options.by_test:
        names = [o.test.partition("[")[0] for o in outcomes if o.kind == "noticed"]
        for name, number in Counter(names).most_common():
            print(f"{number:5} noticed by {name}")
    noticed = counts["noticed"] + counts["hung"]
    total = noticed + counts["missed"]
    print(f"{options.module}: the tests notice {noticed} of {total} mutants", end="")
    print(f" ({counts['hung']} of them hung)" if counts["hung"] else "")
    for kind, text in {
        "equivalent": "behave as the original does",
        "unnoticed": "are noticed by a later step only",
        "stillborn": "are stillborn: no test ran",
    }.items():
        if counts[kind]:
            print(f"{counts[kind]} more {text}")
    return total > 0 and not counts["missed"] and not idle


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when the tests notice every mutant that they can, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants")
    parser.add_argument("module", type=Path, help="the file to change")
    parser.add_argument("tests", nargs="+", help="a file or folder for pytest to run")
    text = "seconds after which a mutant hangs (%(default)s)"
    parser.add_argument("--timeout", type=float, default=20, help=text)
    text = "count what each test noticed, which others may do as well"
    parser.add_argument("--by-test", action="store_true", help=text)
    text = f"print what is missed as entries for {LISTED.name}"
    parser.add_argument("--entries", action="store_true", help=text)
    options = parser.parse_args(arguments)
    mutants = find_mutants(options.module.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcomes = asyncio.run(judge_all(mutants, options, Path(folder)))
        except BrokenTestsError as error:
            print(f"The tests do not pass on the unmodified module: {error}")
            return 2
        except KeyboardInterrupt:
            return 130
    return 0 if show(mutants, outcomes, options) else 1


if __name__ == "__main__":
    sys.exit(main())
