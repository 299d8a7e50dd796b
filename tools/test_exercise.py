"""Tests of the exercise: its catalogue of wrong servers, and its judge."""

import ast
import subprocess
import sys
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import pytest

from exercise.judge import (
    RIGHT,
    CannotJudgeError,
    Outcome,
    Wrong,
    await_all,
    judge,
    main,
    read_catalogue,
    show,
)
from tools.readme import find_step

CATALOGUE = read_catalogue()
WriteTests: TypeAlias = Callable[[str], Path]
FAILS = "from pathlib import Path\n\n\ndef test_it() -> None:\n    "
# The one wrong server that these tests need: it is found without starting it.
READS = (
    FAILS
    + 'assert "WELCOME" not in Path(__file__).with_name("server.py").read_text()\n'
)


@pytest.fixture
def write_tests(tmp_path: Path) -> WriteTests:
    """Return a function that writes a file of tests."""

    def write(text: str) -> Path:
        path = tmp_path / "test_mine.py"
        path.write_text(text)
        return path

    return write


def test_the_first_tests_are_step_6s() -> None:
    def functions(path: Path) -> dict[str, str]:
        tree = ast.parse(path.read_text())
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return {it.name: ast.unparse(it) for it in tree.body if isinstance(it, kinds)}

    step6 = functions(find_step(6) / "test_server.py")
    mine = functions(Path("exercise/test_server.py"))
    assert len([name for name in mine if name.startswith("test_given")]) == 4
    del mine["server"]  # no_server_errors is for the reader to add
    assert mine.items() <= step6.items()


@pytest.mark.parametrize("wrong", CATALOGUE, ids=lambda wrong: str(wrong.number))
def test_edits_apply_and_compile(wrong: Wrong) -> None:
    for step in range(wrong.step, 7):
        compile(
            wrong.apply(find_step(step).joinpath("server.py").read_text()), "", "exec"
        )


def test_wrong_servers_look_like_the_right_one(tmp_path: Path) -> None:
    right = RIGHT.joinpath("server.py").read_text()
    for wrong in CATALOGUE:
        Path(tmp_path, f"wrong{wrong.number}.py").write_text(wrong.apply(right))
    for command in "check --ignore=INP", "format --check":
        ruff = [
            "-m",
            "ruff",
            *command.split(),
            "--config=pyproject.toml",
            str(tmp_path),
        ]
        subprocess.run([sys.executable, *ruff], check=True)


@pytest.mark.parametrize("path", ["README.md", "exercise/README.md"])
def test_text_says_how_many(path: str) -> None:
    number = len(read_catalogue())
    text = Path(path).read_text()
    assert f"{number} servers that are wrong" in text or f"{number} wrong" in text


def test_nothing_is_there_twice() -> None:
    right = RIGHT.joinpath("server.py").read_text()
    assert len({wrong.title for wrong in CATALOGUE}) == len(CATALOGUE) >= 60
    assert len({wrong.hint for wrong in CATALOGUE}) == len(CATALOGUE)
    codes = {ast.unparse(ast.parse(wrong.apply(right))) for wrong in CATALOGUE}
    assert len(codes | {ast.unparse(ast.parse(right))}) == len(CATALOGUE) + 1
    kinds = [kind for kind, _ in groupby(CATALOGUE, key=lambda wrong: wrong.kind)]
    assert len(kinds) == len(set(kinds)) == 13


def test_each_is_noticed_by_a_test_that_exists() -> None:
    source = find_step(6).joinpath("test_server.py").read_text()
    for wrong in CATALOGUE:
        assert f"async def {wrong.noticed_by.partition('[')[0]}(" in source


def test_judge_finds_what_fails_and_what_hangs(
    write_tests: WriteTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = judge(write_tests(READS), CATALOGUE[:2])
    assert first[:2] == (1, "test_it")
    assert "WELCOME" in first.cause
    assert second == Outcome(0, "")

    hangs = READS.replace("assert", "if").replace(" not in", " in")
    hangs = hangs.rstrip() + ":\n        __import__('time').sleep(60)\n"
    seconds = iter([0.0, -0.4])  # so the bound is 8 seconds
    monkeypatch.setattr("exercise.judge.monotonic", lambda: next(seconds))
    assert judge(write_tests(hangs), CATALOGUE[:1]) == [Outcome(1, "test_it", "", True)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FAILS + "assert 1 == 2\n", "test_it fails on the right server: assert 1 == 2"),
        (FAILS + "pass\n\n\nimport nothing\n", "Importing * No module named 'nothing'"),
        ("", "There are no tests in *test_mine.py"),
        (
            FAILS + 'assert 0, "no server on port 1: taken"\n',
            "The server does not start",
        ),
    ],
    ids=["fails", "import", "none", "port"],
)
def test_judge_says_why_it_cannot(
    write_tests: WriteTests, text: str, message: str
) -> None:
    with pytest.raises(CannotJudgeError) as raised:
        judge(write_tests(text), CATALOGUE[:1])
    said = str(raised.value)
    assert "\n" not in said
    assert all(part in said for part in message.split("*")), said


def test_judge_needs_the_right_server(write_tests: WriteTests, tmp_path: Path) -> None:
    tmp_path.joinpath("server.py").write_text("")
    with pytest.raises(CannotJudgeError, match="has server"):
        judge(write_tests(READS), CATALOGUE[:1])
    with pytest.raises(CannotJudgeError, match="There is no nowhere"):
        judge(Path("nowhere"), CATALOGUE[:1])


def test_judge_gives_the_tests_what_stands_beside_them(
    write_tests: WriteTests, tmp_path: Path
) -> None:
    """That is step 6's server and utilities, and one's own files, but not its guard."""
    write_tests("""
from pathlib import Path

from step6_groups import server

from . import server as same, utils
from .more import NUMBER


def test_it() -> None:
    assert server is same
    names = {path.name for path in Path(utils.__file__).parent.glob("*.*")}
    assert names == {"__init__.py", "server.py", "utils.py", "test_mine.py", "more.py"}
""")
    tmp_path.joinpath("more.py").write_text("NUMBER = 1\n")

    assert judge(tmp_path, CATALOGUE[:1]) == [Outcome(0, "")]


def test_progress_is_said_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = Future[Outcome](), Future[Outcome]()
    one.set_result(Outcome(0, ""))
    waited = []

    def wait(pending: set[Future[Outcome]], seconds: float, *_: object) -> object:
        waited.append(seconds)
        if len(waited) == 2:
            other.set_result(Outcome(0, ""))
        return futures.wait(pending, 0)

    monkeypatch.setattr("exercise.judge.wait", wait)
    await_all([one, other])
    assert waited == [10, 10]
    assert capsys.readouterr().err == "1 of 2\n"


OUTCOMES = [Outcome(1, "test_a"), Outcome(0, ""), Outcome(1, "test_b", hung=True)]


def test_table_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(CATALOGUE[:4], [*OUTCOMES, OUTCOMES[0]]) == 1
    assert (
        capsys.readouterr().out
        == """\
Noticed (ALL=yes: which)
    2 by test_a
    1 by test_b
Not noticed
      says too much: 2

3 of 4 wrong servers are noticed.
What does one of them do? make hint HINT=2
"""
    )


def test_table_tells_only_the_kind_of_what_is_missed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show(CATALOGUE[:3], OUTCOMES, every=True) == 1
    output = capsys.readouterr().out
    for wrong, told in zip(CATALOGUE, [True, False, True], strict=False):
        assert (wrong.title in output) is told
    assert "test_b\n    3 Echoes four times instead of three (it hung)\n" in output
    assert "Not noticed\n      says too much: 2\n" in output
    assert "\n2 of 3 wrong servers are noticed.\n" in output
    assert output.endswith("make hint HINT=2\n")


def test_hint_and_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hint", "2"]) == 0
    hint = capsys.readouterr().out
    assert hint == f"2, says too much: {CATALOGUE[1].title}\n{CATALOGUE[1].hint}\n"

    assert main(["answer", "2"]) == 0
    answer = capsys.readouterr().out
    assert "\n+                await socket.send_str(value)\n" in answer
    assert CATALOGUE[1].noticed_by in answer


def test_only_some_are_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def judge(tests: Path, catalogue: list[Wrong]) -> list[Outcome]:
        assert tests == Path("mine")
        return [Outcome(int(wrong.number != 2), "test_a") for wrong in catalogue]

    monkeypatch.setattr("exercise.judge.judge", judge)
    assert main(["mine", "2", "1"]) == 1
    output = capsys.readouterr().out
    assert f"test_a\n    1 {CATALOGUE[0].title}\nNot noticed\n" in output
    assert "says too much: 2\n\n1 of 2 wrong servers are noticed.\n" in output
    assert main(["mine", "1"]) == 0
    assert capsys.readouterr().out.endswith("\n1 of 1 wrong servers are noticed.\n")
    assert main(["mine", "1", "1000"]) == 2
    assert "make exercise ONLY=17" in capsys.readouterr().err
    assert main(["mine"]) == 1
    number = len(CATALOGUE)
    score = f"\n{number - 1} of {number} wrong servers are noticed.\n"
    assert score in capsys.readouterr().out


@pytest.mark.parametrize("number", ["", "0", "1000", "two"])
def test_no_such_hint(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hint", number]) == 2
    output = capsys.readouterr()
    assert output.err == (f"Name one of 1 to {len(CATALOGUE)}: make hint HINT=17\n")
    assert output.out == ""
