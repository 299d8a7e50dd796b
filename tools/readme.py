"""What the README takes from the steps; cog calls it from the README's comments."""

import ast
import difflib
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from shutil import copytree


def folder(step: int) -> str:
    """Return the name of a step's folder."""
    return next(Path().glob(f"step{step}_*")).name


def code(step: int, file: str, name: str) -> None:
    """Print the function called `name`."""
    source = Path(folder(step), file).read_text()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    (node,) = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, functions) and node.name == name
    ]
    lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
    print("```python", textwrap.dedent("\n".join(lines)), "```", sep="\n")


def diff(step: int) -> None:
    """Print what a step changed, folded, without context and blank lines."""
    print(f"\n<details><summary>What step {step} changes</summary>\n\n```diff")
    for file in ("server.py", "utils.py", "test_server.py"):
        old, new = (Path(folder(n), file) for n in (step - 1, step))
        lines = difflib.unified_diff(
            old.read_text().splitlines(),
            new.read_text().splitlines(),
            "",
            str(new),
            n=0,
        )
        for line in lines:
            if line.strip() not in "+-" and not line.startswith(("---", "@@")):
                print(line.rstrip())
    print("```\n</details>")


def failure(step: int, old: str, new: str, tests: str = "") -> None:
    """Print what the tests report when `new` stands for `old` in the server."""
    with tempfile.TemporaryDirectory() as copy:
        copytree(folder(step), Path(copy, folder(step)))
        Path(copy, "pyproject.toml").write_text(Path("pyproject.toml").read_text())
        server = Path(copy, folder(step), "server.py")
        assert server.read_text().count(old) == 1
        server.write_text(server.read_text().replace(old, new))
        pytest = [sys.executable, "-m", "pytest", "-x", "-k", tests, folder(step)]
        os.environ.update(BASE_PORT="5500", COLUMNS="80", CI="", BUILD_NUMBER="")
        result = subprocess.run(pytest, cwd=copy, capture_output=True, check=False)
    report = result.stdout.decode().partition("= FAILURES =")[2].partition("\n====")[0]
    lines = [line for line in report.splitlines()[1:] if line.strip() != "E"]
    print("```text", *[line for line in lines if "Use -v" not in line], "```", sep="\n")
