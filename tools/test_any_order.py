"""Check what step 14's chapter says, on a copy of the step with its wrong server."""

import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import copy, copytree

STEP = Path("beyond/step14_any_order")
RACES = STEP.joinpath("races.diff").read_text()
TITLE = "reads the members, waits, sends"  # the wrong server of the chapter


def run(folder: Path, *options: str, **variables: str) -> str:
    """Return what pytest prints in a copy of the step with the wrong server."""
    copytree(STEP, folder / "step", dirs_exist_ok=True)
    copy("pyproject.toml", folder)
    [edit] = re.findall(
        rf"^# {TITLE}\n(.*?)(?:^# |\Z)", RACES, re.MULTILINE | re.DOTALL
    )
    lines = edit.strip("\n").split("\n")
    old, new = [
        "".join(f"{line[1:]}\n" for line in lines if line[0] != sign) for sign in "+-"
    ]
    server = folder / "step/server.py"
    server.write_text(STEP.joinpath("server.py").read_text().replace(old, new))
    port = int(os.environ.get("BASE_PORT") or "3000") + 50
    environment = {**os.environ, "BASE_PORT": f"{port}", "COLUMNS": "80", **variables}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "step"]
    return subprocess.run(
        [*command, *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    ).stdout


def test_race_is_not_found_on_the_network(tmp_path: Path) -> None:
    output = run(tmp_path, "-k", "on_the_network", "--count=100")
    assert "100 passed" in output, output


def test_token_repeats_a_failure_in_another_process(tmp_path: Path) -> None:
    output = run(tmp_path, "-k", "groups_in_any_order")
    [token] = re.findall("TOKEN=(\\S+)", output)
    report = output.partition("\n_")[2].partition("====")[0]
    for seed in "1", "2":
        variables = {"TOKEN": token, "PYTHONHASHSEED": seed, "ORDERS": "1"}
        output = run(tmp_path, "-k", "groups_in_any_order", **variables)
        assert report in output


def test_report_of_a_conversation(tmp_path: Path) -> None:
    output = run(tmp_path, "-k", "conversations")
    text = STEP.joinpath("README.md").read_text()
    [report] = re.findall(
        "^```text\n(No order .*?)^```", text, re.MULTILINE | re.DOTALL
    )
    assert report in output, output
