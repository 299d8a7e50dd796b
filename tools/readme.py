"""What the text takes from the steps; cog calls it from the text's comments."""

import ast
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from subprocess import check_output

from exercise.judge import read_catalogue
from tools import edits  # noqa: F401 - the markers name them

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
COG = ["-P", "-I", ".", "-I", "tools", "-p", "from readme import *", "--verbosity=1"]
COG += ["--markers={{{cog }}} {{{end}}}"]
# Without three plugins that no test needs: to load them takes longer than most tests.
PLUGINS = "-p no:anyio -p no:hypothesispytest -p no:platformdirs"
PYTEST = f"pytest --no-header -o verbosity_test_cases=1 {PLUGINS}"


def list_texts() -> list[Path]:
    """Return the paths of all texts."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    return [Path(path) for path in check_output(command, text=True).splitlines()]


def weave(text: Path, *options: str) -> int:
    """Run cog on a text; return its exit code."""
    command = [sys.executable, "-m", "cogapp", *COG, *options, str(text)]
    return subprocess.run(command, check=False).returncode


def find_step(step: int) -> Path:
    """Return a step's folder."""
    for path in (*Path().glob(f"step{step}_*"), *Path().glob(f"beyond/step{step}_*")):
        return path
    sys.exit(f"There is no step {step}")


def block(language: str, *lines: str) -> None:
    """Print lines as a block of code."""
    print(f"```{language}", *lines, "```", sep="\n")


def file(step: int, name: str) -> None:
    """Print a whole file."""
    block("python", find_step(step).joinpath(name).read_text().rstrip())


def start(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Return the number of a function's first line, decorators included."""
    return min(part.lineno for part in [node, *node.decorator_list])


def table(step: int, name: str, constant: str, rows: int) -> None:
    """Print the first rows of a table in a file."""
    lines = find_step(step).joinpath(name).read_text().splitlines()
    first = lines.index(f"{constant} = {{")
    block("python", *lines[first : first + 1 + rows], "    # and more", "}")


def row(step: int, name: str, *keys: str) -> None:
    """Print rows of a table in a file, each with its key."""
    source = find_step(step).joinpath(name).read_text()
    rows = [
        re.search(rf'^    "{key}": \(\n.*?^    \),\n', source, re.M | re.S)
        for key in keys
    ]
    block(
        "python", textwrap.dedent("".join(found[0] for found in rows if found)).rstrip()
    )


def code(step: int, name: str, *functions: str) -> None:
    """Print functions and classes of a file."""
    source = find_step(step).joinpath(name).read_text()
    lines = source.splitlines()
    parts = [
        textwrap.dedent("\n".join(lines[start(node) - 1 : node.end_lineno]))
        for function in functions
        for node in ast.walk(ast.parse(source))
        if isinstance(node, FUNCTIONS) and node.name == function
    ]
    assert len(parts) == len(functions), functions
    block("python", "\n\n\n".join(parts))


def lines(step: int, name: str, first: str, count: int) -> None:
    """Print some lines of a file, from the only one that begins with a text."""
    found = find_step(step).joinpath(name).read_text().splitlines()
    [start] = [at for at, line in enumerate(found) if line.strip().startswith(first)]
    block("python", textwrap.dedent("\n".join(found[start : start + count])))


def diff(step: int, *rooms: str) -> None:
    """Print what `make diffN` prints about the server, what is copied, and more.

    New files are in the text.
    """
    make = ["make", "--no-print-directory", f"diff{step}"]
    files = re.split("^(?=diff --git)", check_output(make, text=True), flags=re.M)
    names = ("server.py", "utils.py", "conftest.py")
    wanted = [
        it
        for it in files
        if any(f"/{name}\n" in it for name in rooms)
        or (any(f"/{name}\n" in it for name in names) and "\nnew file" not in it)
    ]
    lines = "".join(wanted).splitlines()
    noise = "diff --git|index |new file|Not shown"
    block("diff", *[line for line in lines if not re.match(noise, line)])


def wrong(
    step: int, old: str, new: str, options: str = "", name: str = "server.py"
) -> None:
    """Print an edit, its first failure, and how many of the step's tests notice it.

    The tests run once: what `-k` would choose is cut from their report.
    """
    after = edit(step, old, new, name)
    chosen = re.match(r"(?:-k (\S+))? *(.*)", options)
    assert chosen, options
    every = report(find_step(step) / name, after, *chosen[2].split())
    show(step, cut(every, chosen[1] or ""), options)
    failed = {*re.findall(r"^(?:FAILED|ERROR) .*::(\S+)", every, re.MULTILINE)}
    collected = re.search(r"collected (\d+) items", every)
    assert collected, every
    verb = "notices" if len(failed) == 1 else "notice"
    print(f"\n{len(failed)} of this step's {collected[1]} tests {verb} it.")


def failure(
    step: int, old: str, new: str, options: str = "", name: str = "server.py"
) -> None:
    """Print an edit, and its first failure among the tests that are chosen."""
    after = edit(step, old, new, name)
    first = report(find_step(step) / name, after, "-x", *options.split())
    show(step, cut(first), options)


def experiment(step: int, edited: list[tuple[str, str]], test: str, new: str) -> None:
    """Print edits of a server, and a test that passes until its first line changes."""
    path = find_step(step) / "server.py"
    before = server = path.read_text()
    for old_part, new_part in edited:
        assert server.count(old_part) == 1, old_part
        server = server.replace(old_part, new_part)
    show_diff(before, server)
    test_path = path.with_name("test_outsider.py")
    print(f"\nSave this test as `{test_path}`:\n")
    block("python", test.rstrip())
    options = "-k outsider"
    passes = report(path, server, *options.split(), others={test_path: test})
    [summary] = re.findall("= (1 passed, .*) in ", passes)
    print(f'\n`make step{step} ARGS="{options}"` reports: {summary}. ', end="")
    print("Now change the first line:\n")
    changed = f"{new}\n{test.partition(chr(10))[2]}"
    show_diff(test, changed)
    others = {test_path: changed}
    failed = report(path, server, "-x", *options.split(), others=others)
    show(step, cut(failed), options)


def edit(step: int, old: str, new: str, name: str) -> str:
    """Print an edit of a file; return the file's text after it."""
    before = find_step(step).joinpath(name).read_text()
    assert before.count(old) == 1, old
    after = before.replace(old, new)
    show_diff(before, after)
    return after


def show_diff(before: str, after: str) -> None:
    """Print what an edit changes, with a line around it, and "@@" between its parts."""
    texts = before.splitlines(), after.splitlines()
    found = list(difflib.unified_diff(*texts, n=1, lineterm=""))
    block("diff", *[re.sub("^@@ .*", "@@", line) for line in found[3:]])


def show(step: int, failed: str, options: str) -> None:
    """Print the command to run, and what it reports."""
    arguments = f'"-x {options}"' if options else "-x"
    print(f"\n`make step{step} ARGS={arguments}` reports:\n")
    block("text", *failed.splitlines())


def cut(report: str, word: str = "") -> str:
    """Return the first failure of a report, of the tests with a word in their names.

    It is, to the letter, what `-x` prints between the names of the tests and its
    summary: how the test fails, and what fails before or after it.
    """
    names = re.findall(r"^\S+?::(.+?) (?:FAILED|ERROR)\b", report, re.MULTILINE)
    first = next(name for name in names if word in name)
    found = report.partition(" ERRORS ==")[2] or report.partition(" FAILURES ==")[2]
    found = found.partition("\n")[2].partition("= short test summary")[0]
    heading = r"^(?=_+ (?:ERROR at \w+ of )?test_.+ _+$|==+ FAILURES =|=+\Z)"
    parts = re.split(heading, found, flags=re.MULTILINE)
    own = rf"_+ (?:ERROR at \w+ of )?{re.escape(first)} _+\n|=="
    kept = "".join(part for part in parts if re.match(own, part))
    return re.sub(r"\A==.*\n|(?:^==.*\n?)+\Z", "", kept, flags=re.MULTILINE)


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


def find_tests(folder: Path) -> tuple[list[str], list[Path]]:
    """Return the options and the folders with which make runs a step's tests."""
    step = int(folder.name.removeprefix("step").partition("_")[0])
    earlier = [find_step(number) for number in range(9, step) if step < 14]
    options = ["--noconftest", "-p", "conformance"] if earlier else []
    return options, [folder, *earlier]


def report(
    path: Path,
    text: str,
    *options: str,
    base_port: str = "",
    bound: float = 600,
    others: dict[Path, str] | None = None,
) -> str:
    """Return what pytest prints on a copy of a step where files have other texts.

    Raises `subprocess.TimeoutExpired` after `bound` seconds.
    """
    plugin, folders = find_tests(path.parent)
    with tempfile.TemporaryDirectory() as copy:
        for folder in {*folders, find_step(4)}:  # whose helper step 5 compares
            shutil.copytree(folder, Path(copy, folder))
        for name in "pyproject.toml", "conftest.py":
            shutil.copy(name, copy)
        if plugin:
            shutil.copy("beyond/conformance.py", f"{copy}/beyond")
        for file, code in {path: text, **(others or {})}.items():
            Path(copy, file).write_text(code)
        base_port = base_port or os.environ.get("BASE_PORT") or "5500"
        environment = os.environ | {"BASE_PORT": base_port, "PYTHONPATH": "beyond"}
        environment |= {"COLUMNS": "80", "CI": "", "BUILD_NUMBER": ""}
        command = [sys.executable, "-m", *PYTEST.split(), *options, *plugin]
        return subprocess.run(
            [*command, *map(str, folders)],
            cwd=copy,
            env=environment,
            capture_output=True,
            check=False,
            text=True,
            timeout=bound,
        ).stdout


if __name__ == "__main__":
    sys.exit(max(weave(text, "-r") for text in list_texts()))
