"""Check that the make targets, links and anchors that the README names exist."""

import re
import subprocess
from pathlib import Path

import pytest

TEXTS = [path for path in map(Path, ("README.md", "beyond/README.md")) if path.exists()]


def find_anchors(path: Path) -> set[str]:
    """Return the anchors of a text's headings."""
    headings = re.findall(r"^#+ (.*)", path.read_text().lower(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_targets_exist(text: Path) -> None:
    targets = set(re.findall(r"(?:`|^\$ )make ([a-z]\S*?)\b", text.read_text(), re.M))
    make = ["make", "--dry-run", *targets]
    output = subprocess.run(make, check=True, capture_output=True, text=True).stdout
    assert len(targets) >= 3
    assert "the steps are" not in output


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_links_resolve(text: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)]*)\)", text.read_text()):
        name, _, anchor = link.partition("#")
        target = text.parent / name if name else text
        assert target.exists(), link
        assert not anchor or anchor in find_anchors(target), link
