"""Build the projects of the README's "In your own project", and run their tests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = Path("README.md").read_text()
PROJECTS = dict(
    re.findall(r"<!-- project: (\w+) -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
)


def find_files(name: str) -> dict[str, str]:
    """Return the files that a section shows: blocks that begin with a path."""
    blocks = re.findall(r"```\w+\n(# (\S+\.\w+)\n.*?)```", PROJECTS[name], re.DOTALL)
    return {path: code for code, path in blocks}


def find_changes(name: str) -> list[tuple[str, str]]:
    """Return the lines of utils.py that a section takes out, each with the new ones."""
    diffs = re.findall(r"```diff\n(.*?)```", PROJECTS[name], re.DOTALL)
    return [
        (
            "".join(re.findall(r"^-(.*\n)", diff, re.MULTILINE)),
            "".join(re.findall(r"^\+(.*\n)", diff, re.MULTILINE)),
        )
        for diff in diffs
    ]


@pytest.mark.parametrize(
    ("name", "step", "likewise"),
    [
        ("factory", "step3_client_helper", []),
        ("module", "step3_client_helper", ["tests/test_shop.py"]),
        ("headers", "step3_client_helper", ["pyproject.toml"]),
        ("program", "step6_groups", []),
    ],
)
def test_project_passes(
    tmp_path: Path, name: str, step: str, likewise: list[str]
) -> None:
    files = find_files(name)
    changes = find_changes(name)
    if name == "headers":
        changes += find_changes("factory")
    files |= {path: find_files("factory")[path] for path in likewise}
    utils = Path(step, "utils.py").read_text()
    for old, new in changes:
        assert utils.count(old) == 1, old
        utils = utils.replace(old, new)
    files |= {"tests/utils.py": utils, "tests/__init__.py": ""}
    for path, code in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code)
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(
        pytest_command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
