"""Spread changes in a small repository of steps."""

import subprocess
from pathlib import Path

import pytest

SPREAD = Path(__file__).with_name("spread.sh")
CODE = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
STEPS = [Path(name) for name in ("step2_b", "step3_c", "beyond/step9_d")]
LAST = Path("beyond/step10_e")  # differs in its last line, and lacks a file


@pytest.fixture(autouse=True)
def _repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for step in (*STEPS, LAST):
        step.mkdir(parents=True)
        step.joinpath("utils.py").write_text(CODE)
        step.joinpath("README.md").write_text("A chapter.\n")
    for step in STEPS:
        step.joinpath("test_early.py").write_text(CODE)
    LAST.joinpath("utils.py").write_text(CODE.replace("seven", "SEVEN"))
    identity = "-c user.name=A -c user.email=a@example.org"
    for command in ("init --quiet", "add .", f"{identity} commit --quiet -m one"):
        subprocess.run(["git", *command.split()], check=True)


def change(step: Path, new: str) -> None:
    """Change the second line of a step's files."""
    for path in step.glob("*.py"):
        path.write_text(CODE.replace("two", new))


def spread() -> tuple[int, set[str], str]:
    """Spread what has changed in step 2; return the exit code and what is said."""
    command = ["/bin/sh", str(SPREAD), "2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, {*result.stdout.splitlines()}, result.stderr


def test_change_reaches_every_later_step() -> None:
    change(STEPS[0], "TWO")
    STEPS[0].joinpath("new.py").write_text("new\n")
    STEPS[0].joinpath("README.md").write_text("Another chapter.\n")

    changed = {str(step / "utils.py") for step in (*STEPS[1:], LAST)}
    changed |= {str(step / "test_early.py") for step in STEPS[1:]}
    changed |= {str(step / "new.py") for step in (*STEPS[1:], LAST)}
    assert spread() == (0, changed, "")
    code = CODE.replace("two", "TWO")
    for path in (STEPS[1] / "utils.py", STEPS[2] / "utils.py"):
        assert path.read_text() == code
    assert LAST.joinpath("utils.py").read_text() == code.replace("seven", "SEVEN")
    assert not LAST.joinpath("test_early.py").exists()
    assert spread() == (0, set(), "")
    staged = ["git", "diff", "--cached", "--quiet"]
    subprocess.run(staged, check=True)


def test_conflict_is_marked_and_goes_no_further() -> None:
    change(STEPS[0], "TWO")
    STEPS[1].joinpath("utils.py").write_text(CODE.replace("two", "2"))

    code, changed, conflicts = spread()

    assert code == 1
    assert changed == {"step3_c/test_early.py", "beyond/step9_d/test_early.py"}
    assert "U step3_c/utils.py" in conflicts
    assert "<<<<<<<" in STEPS[1].joinpath("utils.py").read_text()
    assert STEPS[2].joinpath("utils.py").read_text() == CODE
