"""Check what the README names: the targets of make, the links, their anchors."""

import re
import subprocess
from pathlib import Path

import pytest

TEXT = Path("README.md").read_text()
ANCHORS = {
    re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    for heading in re.findall(r"^#+ (.*)", TEXT, re.M)
}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]\S*?)\b", TEXT))))
def test_target_exists(target: str) -> None:
    make = ["make", "--dry-run", target]
    result = subprocess.run(make, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "There is no" not in result.stdout


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]*)\)", TEXT))
def test_link_resolves(link: str) -> None:
    path, _, anchor = link.partition("#")
    assert Path(path).exists()
    assert not anchor or anchor in ANCHORS
