"""Check that the make targets, links and anchors that the README names exist."""

import re
import subprocess
from pathlib import Path

TEXT = Path("README.md").read_text()
HEADINGS = re.findall(r"^#+ (.*)", TEXT.lower(), re.MULTILINE)
ANCHORS = {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in HEADINGS}


def test_targets_exist() -> None:
    targets = set(re.findall(r"make ([a-z]\S*?)\b", TEXT))
    make = ["make", "--dry-run", *targets]
    output = subprocess.run(make, check=True, capture_output=True, text=True).stdout
    assert len(targets) >= 10
    assert "the steps are" not in output


def test_links_resolve() -> None:
    for link in re.findall(r"\]\((?!http)([^)]*)\)", TEXT):
        path, _, anchor = link.partition("#")
        assert Path(path).exists()
        assert anchor in ANCHORS | {""}
