"""What the text takes from the steps; cog calls it from the text's comments."""

import ast
import difflib
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from shutil import copytree
from subprocess import check_output

from exercise.judge import read_catalogue

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
COG = ["-P", "-I", ".", "-I", "tools", "-p", "from readme import *", "--verbosity=1"]
COG += ["--markers={{{cog }}} {{{end}}}"]
# Without Hypothesis' plugin, which takes longer to load than most tests take.
PYTEST = "pytest --no-header -o verbosity_test_cases=1 -p no:hypothesispytest"


def list_texts() -> list[Path]:
    """Return the paths of all texts."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    return [Path(path) for path in check_output(command, text=True).splitlines()]


def weave(text: Path, *options: str) -> int:
    """Run cog on a text; return its exit code."""
    command = [sys.executable, "-m", "cogapp", *COG, *options, str(text)]
    return subprocess.run(command, check=False).returncode


def find(step: int) -> Path:
    """Return a step's folder."""
    name = f"step{step}_*"
    return next(path for path in (*Path().glob(name), *Path("beyond").glob(name)))


def block(language: str, *lines: str) -> None:
    """Print lines as a block of code."""
    print(f"```{language}", *lines, "```", sep="\n")


def file(step: int, name: str) -> None:
    """Print a whole file."""
    block("python", find(step).joinpath(name).read_text().rstrip())


def start(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Return the number of a function's first line, decorators included."""
    return min(part.lineno for part in [node, *node.decorator_list])


def table(step: int, name: str, constant: str, rows: int) -> None:
    """Print the first rows of a table in a file."""
    lines = find(step).joinpath(name).read_text().splitlines()
    first = lines.index(f"{constant} = {{")
    block("python", *lines[first : first + 1 + rows], "    # and more", "}")


def code(step: int, name: str, *functions: str) -> None:
    """Print functions and classes of a file."""
    source = find(step).joinpath(name).read_text()
    lines = source.splitlines()
    parts = [
        textwrap.dedent("\n".join(lines[start(node) - 1 : node.end_lineno]))
        for function in functions
        for node in ast.walk(ast.parse(source))
        if isinstance(node, FUNCTIONS) and node.name == function
    ]
    assert len(parts) == len(functions), functions
    block("python", "\n\n\n".join(parts))


def diff(step: int, look: str, *names: str) -> None:
    """Print what `make diffN` prints, folded, under a sentence on what to look at.

    Of several files, those with one of the `names`, if any are given.
    """
    make = ["make", "--no-print-directory", f"diff{step}"]
    files = re.split("^(?=diff --git)", check_output(make, text=True), flags=re.M)
    wanted = [
        text
        for text in files
        if not names or any(f"/{name}\n" in text for name in names)
    ]
    lines = "".join(wanted).splitlines()
    kept = [li for li in lines if not re.match("diff --git|index |new file", li)]
    print(f"\n<details><summary>What step {step} changes</summary>\n\n{look}\n")
    block("diff", *kept)
    print("\n</details>")


def wrong(
    step: int, old: str, new: str, options: str = "", name: str = "server.py"
) -> None:
    """Print what `failure` does, and how many of the step's tests notice it."""
    after = failure(step, old, new, options, name)
    every = report(find(step) / name, after)
    failed = {*re.findall(r"^(?:FAILED|ERROR) .*::(\S+)", every, re.MULTILINE)}
    collected = re.search(r"collected (\d+) items", every)
    assert failed, every
    assert collected, every
    verb = "notices" if len(failed) == 1 else "notice"
    print(f"\n{len(failed)} of this step's {collected[1]} tests {verb} it.")


def failure(
    step: int, old: str, new: str, options: str = "", name: str = "server.py"
) -> str:
    """Print an edit of a file, the command to run, and its first failure.

    The report is, to the letter, what the command prints between the names of the tests
    and its summary. Return the file's text after the edit.
    """
    path = find(step) / name
    before = path.read_text()
    assert before.count(old) == 1, old
    after = before.replace(old, new)
    edit = difflib.unified_diff(before.splitlines(), after.splitlines(), "", "", n=1)
    block("diff", *[li for li in edit if not re.match(r"---|\+\+\+|@@", li)])
    arguments = ["-x", *options.split()]
    shown = f'"{" ".join(arguments)}"' if options else "-x"
    print(f"\n`make step{step} ARGS={shown}` reports:\n")
    first = report(path, after, *arguments)
    text = re.search(
        r"^==+ (?:ERRORS|FAILURES) =+\n(.*?)^==+ short test summary", first, re.M | re.S
    )
    assert text, first
    block("text", *text[1].splitlines())
    return after


def wrong_servers() -> None:
    """Print the exercise's wrong servers, by kind, each with its hint folded."""
    catalogue = read_catalogue()
    print(f"# {len(catalogue)} ways in which a group chat goes wrong")
    print("\n[Front page](../README.md) · [the exercise](../exercise/README.md)\n")
    print("These are the exercise's wrong servers. Read them as a checklist:", end=" ")
    print("which of these mistakes would the tests of your own server notice?")
    for kind in dict.fromkeys(entry.kind for entry in catalogue):
        print(f"\n## {kind[0].upper()}{kind[1:]}\n")
        for entry in catalogue:
            if entry.kind == kind:
                hint = f"<details><summary>Hint</summary>{entry.hint}</details>"
                print(f"{entry.number}. {entry.title}\n    {hint}")


def report(path: Path, text: str, *options: str) -> str:
    """Return what pytest prints on a copy of a step where a file has another text."""
    with tempfile.TemporaryDirectory() as copy:
        copytree(path.parent, Path(copy, path.parent))
        Path(copy, "pyproject.toml").write_text(Path("pyproject.toml").read_text())
        Path(copy, path).write_text(text)
        environment = {"BASE_PORT": "5500"} | os.environ
        environment |= {"COLUMNS": "80", "CI": "", "BUILD_NUMBER": ""}
        command = [sys.executable, "-m", *PYTEST.split(), *options, str(path.parent)]
        return subprocess.run(
            command,
            cwd=copy,
            env=environment,
            capture_output=True,
            check=False,
            text=True,
        ).stdout


if __name__ == "__main__":
    sys.exit(max(weave(text, "-r") for text in list_texts()))
