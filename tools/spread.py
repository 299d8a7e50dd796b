"""Merge what has changed in a step since the last commit into the steps after it.

Run from the top of the project: `python -m tools.spread STEP`
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path


def find_steps() -> list[Path]:
    """Return the folders of all steps, in their order."""
    folders = [*Path().glob("step*_*"), *Path().glob("beyond/step*_*")]
    return sorted(
        folders, key=lambda path: int(re.sub(r"\D*(\d+).*", r"\1", path.name))
    )


def read_committed(path: Path) -> str | None:
    """Return a file as it was in the last commit, None if it was not there."""
    command = ["git", "show", f"HEAD:./{path.as_posix()}"]
    result = subprocess.run(command, capture_output=True, check=False)
    return None if result.returncode else result.stdout.decode()


def merge(ours: Path, old: str, new: str, source: Path) -> int:
    """Merge what `source` was and is into a file; return how many conflicts."""
    with tempfile.TemporaryDirectory() as folder:
        versions = [Path(folder, name) for name in ("as committed", "as changed")]
        for version, text in zip(versions, (old, new), strict=True):
            version.write_text(text)
        labels = [str(ours), f"{source} as committed", f"{source} as changed"]
        options = [part for label in labels for part in ("-L", label)]
        command = ["git", "merge-file", *options, str(ours), *map(str, versions)]
        return subprocess.run(command, check=False).returncode


def spread(before: Path, after: Path, name: str) -> bool:
    """Take a file's change from a step to the next; tell whether that went well."""
    source, target = before / name, after / name
    old = read_committed(source)
    new = source.read_text() if source.exists() else None
    if old == new:
        return True
    if new is None:
        print(f"{source} is gone: see yourself what becomes of {target}")
        return not target.exists()
    if not target.exists():
        target.write_text(new)
        print(f"{target}: copied")
        return True
    if target.read_text() == new:
        return True
    text = target.read_text()
    conflicts = merge(target, old or "", new, source)
    if conflicts:
        print(f"{target}: {conflicts} conflicts, see the markers in it")
    elif target.read_text() != text:
        print(f"{target}: merged")
    return not conflicts


def main() -> int:
    """Return 0 when every later step has the change, 1 when there are conflicts."""
    steps = find_steps()
    first = next(
        i for i, s in enumerate(steps) if s.name.startswith(f"step{sys.argv[1]}_")
    )
    stuck: set[str] = set()  # a file with conflict markers goes no further
    for before, after in zip(steps[first:], steps[first + 1 :], strict=False):
        files = subprocess.check_output(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", before],
            text=True,
        ).splitlines()
        names = {Path(file).name for file in files} - {"README.md"}  # a chapter stays
        for name in sorted(names - stuck):
            if not spread(before, after, name):
                stuck.add(name)
    return 1 if stuck else 0


if __name__ == "__main__":
    sys.exit(main())
