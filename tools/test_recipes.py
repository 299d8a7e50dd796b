"""Build the projects of "Your own server" and its recipes, and run their tests.

Each page is one project: its files are the blocks whose first line is a path. Those
that it does not show, and utils.py, are the ones of own_server.md; simulation.py is
step 14's. A block of language
diff is a change of one file; the block of language text behind it is what pytest then
prints, to the letter, except that a line "…" stands for any number of lines.
"""

import os
import re
import subprocess
import sys
import tempfile
from itertools import cycle, pairwise
from pathlib import Path

import pytest

FIRST = Path("docs/own_server.md")
CLOCKS = Path("docs/recipes/clocks.md")
PAGES = [FIRST, *sorted(Path("docs/recipes").glob("*.md"))]
PORTS = cycle(range(20, 99))  # beside those of the steps: none is used twice in a row
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
UTILS = "beyond/step7_test_client"
SIMULATION = Path("beyond/step14_any_order/simulation.py")
Change = tuple[str, str]  # a block of language diff, and the report behind it


def find_files(page: Path) -> dict[str, str]:
    """Return the files that a page shows: blocks that begin with a path."""
    blocks = BLOCK.findall(page.read_text())
    found = [(re.match(r"# (\S+\.\w+)\n", code), code) for _, code in blocks]
    files = [(path[1], code) for path, code in found if path]
    changes = [code for code, _ in find_changes(page)]
    return {path: code for path, code in files if code not in changes}


def find_changes(page: Path) -> list[Change]:
    """Return the changes that a page shows, each with its report, "" if it has none."""
    blocks = [*BLOCK.findall(page.read_text()), ("", "")]
    return [
        (code, report if following == "text" else "")
        for (language, code), (following, report) in pairwise(blocks)
        if language == "diff"
    ]


def apply(change: str, files: dict[str, str]) -> None:
    """Make a change to a file, whose parts are set apart by lines "@@"."""
    heading, _, parts = change.partition("\n")
    path = heading.removeprefix("# ")
    for part in parts.split("@@\n"):
        lines = part.splitlines()
        old, new = (
            "".join(f"{line[1:]}\n" for line in lines if line[:1] != sign)
            for sign in "+-"
        )
        assert files[path].count(old) == 1, part
        files[path] = files[path].replace(old, new)


def build(page: Path, utils: str = UTILS) -> dict[str, str]:
    """Return the files of a page's project."""
    shared = find_files(FIRST)
    files = {path: shared[path] for path in ("tests/conftest.py", "pyproject.toml")}
    files |= find_files(page)
    if any("virtual_time" in code for code in files.values()):
        [change] = [change for change, report in find_changes(CLOCKS) if not report]
        apply(change, files)
    files |= {"tests/utils.py": Path(utils, "utils.py").read_text()}
    if "from .simulation import" in "".join(files.values()):
        files |= {"tests/simulation.py": SIMULATION.read_text()}
    return files | {"tests/__init__.py": ""}


def write(files: dict[str, str], folder: Path) -> None:
    """Write a project into a folder."""
    for path, code in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(code)


def run(files: dict[str, str], folder: Path, **variables: str) -> tuple[int, str]:
    """Write a project into a folder; return what pytest does there, and prints."""
    write(files, folder)
    port = int(os.environ.get("BASE_PORT") or "3000") + next(PORTS)
    settings = {"BASE_PORT": f"{port - 99}", "COLUMNS": "80", "CI": "", **variables}
    settings |= {"ORDERS": "20"}  # of simulations: enough for what the pages show
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, "BUILD_NUMBER": "", **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return result.returncode, result.stdout + result.stderr


def check_types(projects: dict[str, dict[str, str]], folder: Path) -> str:
    """Write projects side by side; return what mypy complains about.

    Each is a package, so that one run can check them all: what it imports from its
    own top folder is renamed.
    """
    for name, files in projects.items():
        tops = {path.removeprefix("src/").partition("/")[0] for path in files}
        own = "|".join(top.removesuffix(".py") for top in tops)
        for path, code in files.items():
            imports = rf"(?m)^(from|import) ({own})\b"
            renamed = re.sub(imports, rf"\1 {name}.\2", code)
            write({path.removeprefix("src/"): renamed}, folder / name)
    options = ["--strict", "--explicit-package-bases", "--no-error-summary"]
    options += ["--disable-error-code=import-untyped", "--allow-subclassing-any"]
    options += [f"--cache-dir={Path('.mypy_cache/projects').absolute()}"]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, "."],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    ).stdout


def run_wrong(page: Path, folder: Path, change: str) -> tuple[int, str]:
    """Do the same with a page's project after a change, and the time-out it names."""
    files = build(page)
    apply(change, files)
    return run(files, folder, TIMEOUT="1")


VARYING = {
    r"(?m)^ +\^+\n": "",  # Python 3.13 marks other places
    r"0x[0-9a-f]+": "0x…",
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "(id)",
    r"'[0-9a-f]{4}\.\.\.": "'(id)...",  # as pytest shortens it
    r'"[0-9a-f]{3}\.\.\.': '"(id)...',  # as reprlib does
    r"\d{4}-\d\d-\d\dT[0-9:.]+": "(time)",
    r"datetime\.datetime\([0-9, ]+": "datetime.datetime((time), ",
    r"_ssl\.c:\d+": "_ssl.c",
    r"\b127\.0\.0\.1:\d+": "127.0.0.1:3099",
}


def blur(text: str) -> str:
    """Return a report without ids, times, and marks under the code."""
    for pattern, name in VARYING.items():
        text = re.sub(pattern, name, text)
    return text


def shorten(output: str, folder: Path) -> list[str]:
    """Return the lines of a report, with paths as seen from the project."""
    lines = [line.rstrip() for line in output.replace(f"{folder}/", "").splitlines()]
    return [line for line in lines if not line.startswith("====")]


def stands_in(report: str, lines: list[str]) -> bool:
    """Tell whether a report is what pytest printed, with gaps where it says so."""
    printed = blur("\n".join(["", *lines, ""]))
    start = 0
    for part in re.split(r"^…\n", blur(report), flags=re.MULTILINE):
        start = printed.find(f"\n{part}", start)
        if start < 0:
            return False
        start += len(part)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_project_passes(tmp_path: Path, page: Path) -> None:
    returncode, output = run(build(page), tmp_path)
    assert returncode == 0, output


def test_project_passes_with_the_names_of_the_article(tmp_path: Path) -> None:
    [change] = [change for change, report in find_changes(FIRST) if not report]
    files = build(FIRST, "step6_groups")
    apply(change, files)
    returncode, output = run(files, tmp_path)
    assert returncode == 0, output


WRONG = {
    f"{page.stem}{number}": (page, change, report)
    for page in PAGES
    for number, (change, report) in enumerate(find_changes(page), 1)
    if report
}


@pytest.mark.parametrize(("page", "change", "report"), WRONG.values(), ids=WRONG)
def test_wrong_project_fails_as_the_page_says(
    tmp_path: Path, page: Path, change: str, report: str
) -> None:
    returncode, output = run_wrong(page, tmp_path, change)
    assert returncode == 1, output
    assert stands_in(report, shorten(output, tmp_path)), output


# What the tests of a page have to notice, too: old code, new, what is reported.
APPEND = "                    self.prices.append(float(message.data))\n"
SUPPRESS = "with suppress(ClientError, TimeoutError"
CLOSE = '        await socket.close(code=4001, message=b"bad token")\n'
SEND = '        await socket.send_str(f"Hello, {message.data}")\n'
BUGS = {
    "client_under_test-says_more": (
        APPEND,
        f"{APPEND}                    await socket.send_str('subscribe milk')\n",
        "Failed: the client: subscribe milk, not (nothing)",
    ),
    "client_under_test-crashes": (
        "with suppress(TypeError, ValueError):  #",
        "if True:  #",
        "ValueError: could not convert string to float: 'nonsense'",
    ),
    "client_under_test-leaves_at_nonsense": (
        "                with suppress(TypeError, ValueError):  # an error, nonsense\n",
        "                if message.data == 'nonsense':\n"
        "                    return\n"
        "                with suppress(TypeError, ValueError):\n",
        "Failed: the client: (closed), not (nothing)",
    ),
    "client_under_test-gives_up": (
        "await asyncio.sleep(self.pause)",
        "return",
        "waited 3600 s for the",
    ),
    "client_under_test-leaves_early": (
        "ws_receive=60",
        "ws_receive=5",
        "client: (closed), not (noth",
    ),
    "client_under_test-leaves_late": (
        "ws_receive=60",
        "ws_receive=3000",
        "assert 3000.0 == 60 ± 0.1",
    ),
    "client_under_test-counts_from_connecting": (
        "            async for message in socket:\n",
        "            asyncio.get_running_loop().call_later(\n"
        "                60, asyncio.ensure_future, socket.close()\n"
        "            )\n"
        "            async for message in socket:\n",
        "assert 1.0 == 60 ± 0.1",
    ),
    "client_under_test-never_pauses_longer": (
        "2 * self.pause, 60",
        "2 * self.pause, 8",
        "== 183 ± 0.1",
    ),
    "client_under_test-pauses_ever_longer": (
        "2 * self.pause, 60",
        "2 * self.pause, 255",
        "== 183 ± 0.1",
    ),
    "client_under_test-keeps_its_pause": (
        "            self.pause = 1\n",
        "",
        "== 183 ± 0.1",
    ),
    "client_under_test-loses_its_cancellation": (
        SUPPRESS,
        f"{SUPPRESS}, asyncio.CancelledError",
        "still running: <coroutine object Feed.run",
    ),
    "closes_first-another_code": (
        "code=4001",
        "code=4003",
        "code 4003 and reason 'bad token'",
    ),
    "closes_first-crashes": (
        CLOSE,
        '        raise RuntimeError("no such user")\n',
        "RuntimeError('no such user')",
    ),
    "closes_first-hangs": (
        CLOSE,
        f"        async for _ in socket:\n            pass\n{CLOSE}",
        "waited 1 s for the server to close with code 4001",
    ),
    "closes_first-breaks_off": (
        '"done"):',
        "7):",
        "had received 2: ['10 %', '50 %']",
    ),
    "closes_first-restarts_silently": (
        "    for socket in app[SOCKETS].copy():\n",
        "    for socket in ():\n",
        "the connection ended before the client's close frame: no close",
    ),
    "closes_first-restarts_with_1000": (
        "GOING_AWAY,",
        "OK,",
        "1000 and reason 'restarting'",
    ),
    "closes_first-lets_in": (
        '!= "sesame"',
        '== "?"',
        "client 1: connected; had received 0: []",
    ),
    "closes_first-no_reason": (', message=b"bad token"', "", "assert 'bad token' in"),
    "fastapi-does_not_stop": (
        '"1.20"}\n    yield\n',
        '"1.20"}\n    yield\n    import asyncio\n\n    await asyncio.Event().wait()\n',
        "\nstill running: <coroutine object LifespanOn.main",
    ),
    "leaving-forgets": (
        "        online.discard(name)\n",
        "",
        "Extra items in the left set:\nE     'ada'",
    ),
    "leaving-silent": (
        "await other.send_str(",
        "str(",
        "waited 1 s for the message 'ada left'",
    ),
    "slow_start-once": (
        "    return socket\n",
        "    await database.close()\n    return socket\n",
        "ValueError: no active connection",
    ),
    "strict_mode-silent": (
        SEND,
        "        pass\n",
        "Right contains one more item: 'Hello, Ada'",
    ),
    "strict_mode-deaf": (
        SEND,
        f"        import asyncio\n\n        await asyncio.sleep(9)\n{SEND}",
        "waited 1 s for the server to answer a ping",
    ),
    "tls-insecure": (
        "not request.secure",
        "request.secure",
        "WSServerHandshakeError: 403",
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_bug_is_noticed(tmp_path: Path, name: str) -> None:
    old, new, report = BUGS[name]
    files = build(Path("docs/recipes", f"{name.partition('-')[0]}.md"))
    [path] = [path for path, code in files.items() if old in code]
    assert files[path].count(old) == 1
    files[path] = files[path].replace(old, new)
    returncode, output = run(files, tmp_path, TIMEOUT="1")
    assert returncode == 1, output
    assert report in output


def test_mutmut_works_with_the_settings_of_the_page(tmp_path: Path) -> None:
    text = FIRST.read_text()
    write(build(FIRST), tmp_path)
    [settings] = [code for _, code in BLOCK.findall(text) if "[tool.mutmut]" in code]
    with tmp_path.joinpath("pyproject.toml").open("a") as file:
        file.write(settings)
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1"]
    output = subprocess.check_output(command, cwd=tmp_path, text=True)
    made, noticed = re.findall(r"(\d+)/\1  🎉 (\d+) ", output)[-1]
    assert f"makes {made}, and the test notices all" in text
    assert made == noticed


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_page_says_what_it_needs(page: Path) -> None:
    needs, files = page.read_text().splitlines()[2], find_files(page)
    for path in ("tests/conftest.py", "pyproject.toml"):
        own = path in files or (path == "pyproject.toml" and "pytest.ini" in files)
        assert (f"`{Path(path).name}`" in needs) is not own
    code = "\n".join(build(page).values())
    used = {*re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE)}
    used -= {*sys.stdlib_module_names, "shop", "feed", "prices", "pytest_asyncio"}
    [packages] = re.findall("`pip install (.*?)`", needs)
    named = {package.partition("==")[0] for package in packages.split()}
    assert {name.replace("_", "-") for name in used} <= named


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_page_shows_a_wrong_project(page: Path) -> None:
    assert any(report for _, report in find_changes(page))


def test_guard_is_that_of_the_steps() -> None:
    guard = build(FIRST)["tests/conftest.py"].partition("\n")[2]
    strict = build(Path("docs/recipes/strict_mode.md"))["tests/conftest.py"]
    strict = strict.replace("import pytest_asyncio\n", "").replace("_asyncio", "")
    assert strict.partition("\n")[2] == guard
    for path in [*Path().glob("step*/conftest.py"), Path(UTILS, "conftest.py")]:
        assert path.read_text().partition("\n\n")[2] == guard
    [constant] = re.findall("^LIBRARIES = .*\n", guard, re.MULTILINE)
    body = guard.partition('left a task running."""\n')[2]
    for path in Path().glob("beyond/step*/conftest.py"):
        if path.parent.name.startswith("step14"):  # its simulation reads the log itself
            continue
        step = path.read_text()  # with more fixtures, and docstrings of its own
        assert constant in step
        assert body in step


def main() -> None:
    """Print what wrong projects report: all, or those that the arguments name."""
    for name, (page, change, _) in WRONG.items():
        if any(word in name for word in sys.argv[1:] or [""]):
            with tempfile.TemporaryDirectory() as folder:
                output = run_wrong(page, Path(folder), change)[1]
                print(f"\n== {name}", *shorten(output, Path(folder)), sep="\n")


if __name__ == "__main__":
    main()
