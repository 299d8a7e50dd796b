"""Run the tests of several steps on one server; `make step12` does, with this plugin.

`pytest --noconftest -p conformance FOLDER ...`: what the first folder has, its server,
conftest.py, utils.py and so on, takes the place of what the other folders have.
With `--server my_chat.server`, that module is the server; it may be an address, too.
"""

import os
import re
import sys
from collections import Counter
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = re.compile(r".*?step\d+_\w+")
ROOMS = {"server", "protocol", "groups", "connection"}
ROOMS |= {"broker", "shared_groups", "page"}


class Places(MetaPathFinder, Loader):
    """Imports other modules than those that are named, by a table of both names."""

    def __init__(self, table: dict[str, str]) -> None:
        """Take the table, without the names that stay."""
        self.table = {name: other for name, other in table.items() if name != other}

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Find the modules in the table; Python finds all others."""
        return spec_from_loader(name, self) if name in self.table else None

    def exec_module(self, module: ModuleType) -> None:
        """Import the other module in its place."""
        sys.modules[module.__name__] = import_module(self.table[module.__name__])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--server", help="run the tests on this module or address")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test is imported, decide what its imports mean."""
    first, *others = [Path(FOLDER.findall(argument)[0]) for argument in config.args]
    files = [it.relative_to(first).with_suffix("") for it in first.rglob("*.py")]
    names = [".".join(it.parts) for it in files if not it.match("test_*")]
    table = {
        f"{it.name}.{name}": f"{first.name}.{name}" for it in others for name in names
    }
    if server := config.option.server:
        if "://" in server:
            os.environ["URL"], server = server, "relay"
            config.pluginmanager.import_plugin(server)
        package = "".join(server.rpartition(".")[:2])
        for folder in first, *others:
            table |= {f"{folder.name}.{room}": f"{package}{room}" for room in ROOMS}
            table[f"{folder.name}.server"] = server
        try:
            import_module(server)
        except ImportError as error:
            raise pytest.UsageError(f"cannot import {server}: {error}") from None
    places = Places(table)
    if too_late := sorted(places.table.keys() & sys.modules.keys()):
        raise pytest.UsageError(f"{too_late} already imported: use --noconftest")
    sys.meta_path.insert(0, places)
    if "conftest" in names:
        config.pluginmanager.import_plugin(f"{first.name}.conftest")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say at the end how many tests of which folder have run on which server."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    stats = reporter.stats if reporter else {}  # there is none in a worker process
    ran = [it.nodeid for key in ("passed", "failed") for it in stats.get(key, [])]
    counts = Counter(Path(FOLDER.findall(nodeid)[0]).name for nodeid in ran)
    if counts and reporter:
        server = config.option.server or Path(FOLDER.findall(config.args[0])[0]).name
        lines = [f"{count} of {folder}" for folder, count in counts.items()]
        reporter.write_line(f"tests on {server}: {', '.join(lines)}")
