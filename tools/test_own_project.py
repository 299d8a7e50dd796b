"""Build the projects of "Your own server", and run their tests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = Path("docs/own_server.md").read_text()
PROJECTS = dict(
    re.findall(r"<!-- project: (\w+) -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
)


def find_files(name: str) -> dict[str, str]:
    """Return the files that a section shows: blocks that begin with a path."""
    blocks = re.findall(r"```\w+\n(# (\S+\.\w+)\n.*?)```", PROJECTS[name], re.DOTALL)
    return {path: code for code, path in blocks}


@pytest.mark.parametrize(
    ("name", "utils", "likewise"),
    [
        ("factory", "step6_groups", []),
        ("module", "step6_groups", []),
        ("headers", "beyond/step7_test_client", ["pyproject.toml"]),
        ("program", "beyond/step7_test_client", []),
    ],
)
def test_project_passes(
    tmp_path: Path, name: str, utils: str, likewise: list[str]
) -> None:
    files = {path: find_files("factory")[path] for path in likewise} | find_files(name)
    files |= {"tests/utils.py": Path(utils, "utils.py").read_text()}
    files |= {"tests/__init__.py": ""}
    for path, code in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code)
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(
        pytest_command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
