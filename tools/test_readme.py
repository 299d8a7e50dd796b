"""Check what the text takes from the steps, and the targets and links that it names."""

import os
import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tools.readme import cut, list_texts, weave

TEXTS = list_texts()
# What the site's Markdown has and GitHub's has not: there it would show up raw.
OF_MYST = r"^(```+|~~~+|:::+)\s*\{|\{[\w:.-]+\}`|^\([\w-]+\)=$|^%|^\+\+\+|^---$\n\w+:"


def find_anchors(path: Path) -> set[str]:
    """Return the anchors of a text's headings."""
    headings = re.findall(r"^#+ (.*)", path.read_text().lower(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_text_agrees_with_the_steps(text: Path) -> None:
    assert weave(text, "--check", "--diff") == 0


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_comments_can_be_read(text: Path) -> None:
    comments = re.findall(r"^<!-- .*", text.read_text(), re.MULTILINE)
    assert [it for it in comments if len(it) > 200] == []  # see tools/edits.py


def test_first_failure_is_cut_from_a_report() -> None:
    text = "a/test_a.py::test_a PASSED [ 9%]\na/test_a.py::test_a ERROR [ 9%]\n"
    text += "a/test_a.py::test_b[1 2] FAILED [50%]\na/test_a.py::test_b[1 2] ERROR\n"
    text += "a/test_a.py::test_c FAILED [99%]\n\n"
    heading = "_ {} _\n".format
    after_a = heading("ERROR at teardown of test_a") + "E   KeyError: 'a'\n"
    after_b = heading("ERROR at teardown of test_b[1 2]") + "E   KeyError: 'b'\n"
    b = heading("test_b[1 2]") + "----- Captured log -----\nb\n"
    c = heading("test_c") + "E   assert 0\n"
    failures = "====== FAILURES ======\n"
    text += f"====== ERRORS ======\n{after_a}{after_b}{failures}{b}{c}"
    text += "====== short test summary info ======\nFAILED a/test_a.py::test_c\n"

    assert cut(text) == after_a
    assert cut(text, "b") == f"{after_b}{failures}{b}"
    assert cut(text, "c") == c


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_text_has_nothing_of_mysts_own(text: Path) -> None:
    prose = text.read_text(encoding="utf-8")
    assert not re.search(r"^```+\s*\{", prose, re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", prose, flags=re.DOTALL | re.MULTILINE)
    found = re.search(OF_MYST, prose, re.MULTILINE)
    assert not found, found


def test_site_is_made_without_a_warning() -> None:
    make = ["make", "--no-print-directory", "site"]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_targets_exist(text: Path) -> None:
    targets = set(re.findall(r"(?:`|^\$ )make ([a-z]\S*?)\b", text.read_text(), re.M))
    named = {target for target in targets if not target.endswith("N")}  # as in diffN
    if named:
        make = ["make", "--dry-run", *named]
        done = subprocess.run(make, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("step", "options", "named"),
    [
        ("step3", "-k echo", "step3_client_helper -k echo"),
        ("step3_client_helper/", "", "step3_client_helper"),
        ("step3", "-x step3_client_helper/a.py::b", "-x step3_client_helper/a.py::b"),
    ],
)
def test_make_runs_what_is_named(step: str, options: str, named: str) -> None:
    make = ["make", "--dry-run", step, f"ARGS={options}"]
    output = subprocess.check_output(make, text=True)
    [found] = re.findall("pytest .* --no-header (.*)", output)
    assert found.split() == named.split()


def test_chapters_lead_to_each_other() -> None:
    chapters = [path for path in TEXTS if re.match(r"step\d+_", path.parent.name)]
    chapters.sort(key=lambda path: int(re.sub(r"\D*(\d+).*", r"\1", path.parent.name)))
    steps = [*Path().glob("step*/server.py"), *Path().glob("beyond/step*/server.py")]
    assert {path.parent for path in chapters} == {path.parent for path in steps}
    for before, after in pairwise(chapters):
        assert os.path.relpath(after, before.parent) in before.read_text()
        assert os.path.relpath(before, after.parent) in after.read_text()


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_links_resolve(text: Path) -> None:
    prose = re.sub(r"```.*?```", "", text.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!http)([^)]*)\)", prose):
        name, _, anchor = link.partition("#")
        target = text.parent / name if name else text
        assert target.exists(), link
        assert not anchor or anchor in find_anchors(target), link
