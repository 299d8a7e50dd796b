"""Spread changes in a small repository of steps."""

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path.cwd()
CODE = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit three steps, the last of which differs in its last line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    for step in ("step2_b", "step3_c", "beyond/step10_d"):
        Path(step).mkdir(parents=True)
        Path(step, "utils.py").write_text(CODE)
    Path("beyond/step10_d/utils.py").write_text(CODE.replace("seven", "SEVEN"))
    for command in (
        "init --quiet",
        "add .",
        "-c user.name=A -c user.email=a@example.org commit --quiet -m one",
    ):
        subprocess.run(["git", *command.split()], check=True)


def spread() -> tuple[int, str]:
    """Spread what has changed in step 2; return the exit code and the output."""
    command = [sys.executable, "-m", "tools.spread", "2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout


def test_change_reaches_every_later_step() -> None:
    Path("step2_b/utils.py").write_text(CODE.replace("two", "TWO"))
    Path("step2_b/new.py").write_text("new\n")

    code, output = spread()

    assert code == 0
    assert output.splitlines() == [
        "step3_c/new.py: copied",
        "step3_c/utils.py: merged",
        "beyond/step10_d/new.py: copied",
        "beyond/step10_d/utils.py: merged",
    ]
    assert Path("step3_c/utils.py").read_text() == CODE.replace("two", "TWO")
    last = CODE.replace("two", "TWO").replace("seven", "SEVEN")
    assert Path("beyond/step10_d/utils.py").read_text() == last
    assert spread() == (0, "")


def test_conflict_is_marked_and_goes_no_further() -> None:
    Path("step2_b/utils.py").write_text(CODE.replace("two", "TWO"))
    Path("step3_c/utils.py").write_text(CODE.replace("two", "2"))

    code, output = spread()

    assert code == 1
    assert "step3_c/utils.py: 1 conflicts" in output
    assert "<<<<<<<" in Path("step3_c/utils.py").read_text()
    assert Path("beyond/step10_d/utils.py").read_text() == CODE.replace(
        "seven", "SEVEN"
    )


def test_nothing_changed_nothing_said() -> None:
    assert spread() == (0, "")
