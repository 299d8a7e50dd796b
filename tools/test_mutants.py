"""Check what tools/mutants.py changes, and what it counts as noticed."""

import os
from collections.abc import Callable
from pathlib import Path
from socket import create_server

import pytest

from tools import mutants

CODE = """
UNIT = "h"
def is_late(hour: int) -> bool:
    return hour > 22
"""
LISTED = """
[[equivalent]]
module = "code.py"
function = "is_late"
old = "return hour > 22"
new = "return hour >= 22"
why = "nothing ever happens at ten"
"""
TESTS = """
import os, socket
from .code import UNIT, is_late

def test_unit():
    assert UNIT == "h"

def test_is_late():
    with socket.create_server(("127.0.0.1", int(os.environ["BASE_PORT"]))):
        assert [is_late(21), is_late(23)] == [False, True]
"""
LATER = """
import pathlib
from . import code

def test_code():
    if pathlib.Path("ran").exists():
        raise OSError(98, "Address already in use")
    pathlib.Path("ran").touch()
"""
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the tool on a module and its tests, in a path with a space."""
    project = tmp_path / "a project" / "beyond" / "step7_x"
    project.mkdir(parents=True)
    (project / "__init__.py").touch()
    listed = tmp_path / "listed.toml"
    monkeypatch.chdir(tmp_path / "a project")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # it starts sooner
    monkeypatch.setenv("BASE_PORT", "20000")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(mutants, "LISTED", listed)

    def run(code: str, tests: str, *options: str, entries: str = "") -> tuple[int, str]:
        (project / "code.py").write_text(code)
        (project / "test_code.py").write_text(tests)
        listed.write_text(entries)
        arguments = ["beyond/step7_x/code.py", "beyond/step7_x", *options]
        return mutants.main(arguments), capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("f(1)", ["pass", "f(1)\nf(1)", "f(2)", "f(0)", "f()"]),
        ("await a()", ["pass", "await a()\nawait a()", "a()"]),
        ("a\nf()", ["f()", "a\na\nf()", "f()\na", "a", "a\nf()\nf()"]),
        ("a = 'b'", ["pass", "a = 'other'", "a = ''"]),
        ("a = f'b{c}'", ["pass", "a = ''", "a = f'b'"]),
        ("a = 3", ["pass", "a = 4", "a = 2", "a = 0"]),
        ("a = 0.5", ["pass", "a = 1.5", "a = 0"]),
        ("a = True", ["pass", "a = False"]),
        ("a = b - c", ["pass", "a = b", "a = b + c"]),
        ("a = b < c", ["pass", "a = b <= c", "a = b >= c"]),
        ("a = b in c", ["pass", "a = b not in c"]),
        ("a = b and c", ["pass", "a = b or c", "a = b", "a = c"]),
        ("a = not b", ["pass", "a = b"]),
        ("a = b[:c]", ["pass", "a = b"]),
        ("a = list(b)", ["pass", "a = b", "a = list()"]),
        ("a = b.strip()", ["pass", "a = b"]),
        ("a = [b, c]", ["pass", "a = [b]", "a = [c]"]),
        ("a = {b: c}", ["pass", "a = {}"]),
        ("a = f(b=c)", ["pass", "a = f()"]),
        ("a = b if f() else c", ["a = b if not f() else c", "a = b if False else c"]),
        ("if f(): a", ["pass", "if not f():\n    a", "if True:\n    a"]),
        ("if a == b: c", ["if a != b:\n    c", "if a == b:\n    pass"]),
        ("while a: break", ["while not a:\n    break", "while a:\n    continue"]),
        ("for a in b: c", ["pass", "for a in b:\n    c\n    break"]),
        ("for a in b: c", ["for a in list(b)[1:]:\n    c"]),
        ("with suppress(A): b", ["b"]),
        ("with a, f(b) as c: d", ["with f(b) as c:\n    d"]),
        ("try: a\nexcept (B, C): d", ["a", "try:\n    a\nexcept (C,):\n    d"]),
        ("try: a\nfinally: b", ["a\nb", "try:\n    a\nfinally:\n    pass"]),
        ("try: a\nfinally: b; c", ["a", "a\nb\nc"]),
        ("def f(): return a", ["def f():\n    return"]),
        ("@a\ndef f(): b", ["def f():\n    b"]),
        ("match a:\n case B | C: d", ["match a:\n    case B:\n        d"]),
        ("match a:\n case B: c\n case D: e", ["match a:\n    case D:\n        e"]),
        ("match a:\n case B if c(): d", ["match a:\n    case B:\n        d"]),
        (
            "match a:\n case B if c(): d",
            ["match a:\n    case B if not c():\n        d"],
        ),
        ("match a:\n case str(b): c", ["match a:\n    case b:\n        c"]),
        ("match a:\n case {'b': 1}: c", ["match a:\n    case {}:\n        c"]),
        ("match a:\n case {'b': 1}: c", ["match a:\n    case {'b': 2}:\n        c"]),
    ],
)
def test_changes_are_made_once_each(code: str, expected: list[str]) -> None:
    made = [mutant.code for mutant in mutants.find_mutants(code)]
    assert set(expected) <= set(made)
    assert len(set(made)) == len(made)


def test_types_docstrings_imports_and_the_main_block_stay() -> None:
    code = '"""A."""\nimport a\nb: c | "d"\ndef f(a: int | str) -> "g": pass\n'
    assert mutants.find_mutants(f"{code}if __name__ == '__main__': f(1)") == []


def test_report(run: Run) -> None:
    code, output = run(CODE, TESTS, "--by-test", entries=LISTED)
    assert code == 1
    assert (
        output
        == """\
beyond/step7_x/code.py:4: in is_late()
-   return hour > 22
+   return hour > 21

    4 noticed by test_is_late
    2 noticed by test_unit
beyond/step7_x/code.py: the tests notice 6 of 7 mutants
1 more behave as the original does
1 more are stillborn: no test ran
"""
    )


def test_an_emptied_test_notices_nothing_and_no_entry_is_idle(run: Run) -> None:
    tests = "from . import code\ndef test_a(): pass\n"
    code, output = run("a = 1", tests, entries=LISTED)
    assert code == 1
    assert "notice 0 of 3 mutants\n" in output
    assert "no mutant is this one, or it is noticed: {'function': 'is_late'" in output


def test_a_mutant_that_hangs_is_noticed_as_such(run: Run) -> None:
    tests = "from .code import wait\ndef test_wait(): wait(True)"
    code = "def wait(done):\n    while not done: pass"
    output = run(code, tests, "--timeout=3")[1]
    assert "notice 2 of 4 mutants (2 of them hung)\n" in output


@pytest.mark.parametrize("tests", [TESTS, LATER])
def test_nothing_is_noticed_on_a_used_port(run: Run, tests: str) -> None:
    with create_server(("127.0.0.1", 20200 if tests == TESTS else 0)):
        code, output = run(CODE, tests)
    assert code == 2
    assert "do not pass on the unmodified module" in output
    assert "ddress already in use" in output
    assert "mutants" not in output
