"""Run the tests of several steps on one server: `make step12` does, with this plugin.

`pytest --noconftest -p conformance FOLDER ...`: the first folder's server takes the
place of the others', and so do its conftest.py, utils.py and messages.py. With
`--server my_chat.server`, the tests run on that module, and the modules beside it.
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

ROOMS = [
    "server",
    "protocol",
    "groups",
    "connection",
    "broker",
    "shared_groups",
    "page",
]


class Places(MetaPathFinder, Loader):
    """Imports modules from other places than their names say, by a table."""

    def __init__(self, table: dict[str, str]) -> None:
        """Take the table, from the names that are imported to those that take over."""
        self.table = {name: other for name, other in table.items() if name != other}

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Find a module that is in the table; Python finds all others."""
        return spec_from_loader(name, self) if name in self.table else None

    def exec_module(self, module: ModuleType) -> None:
        """Import the other module in its place; if there is none, Python says so."""
        name = module.__name__
        sys.modules[name] = import_module(self.table[name])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--server`."""
    parser.addoption("--server", help="module of the server to run the tests on")


def pytest_configure(config: pytest.Config) -> None:
    """Let the tests import the server, and let them use the first folder's fixtures."""
    paths = [Path(argument.partition("::")[0]) for argument in config.args]
    first, *_ = folders = [it if it.is_dir() else it.parent for it in paths]
    config.option.server = server = config.option.server or f"{first.name}.server"
    if "://" in server:
        os.environ["URL"], server = server, "relay"
        config.pluginmanager.import_plugin(server)
    files = [it for it in first.rglob("*.py") if not it.match("test_*")]
    shared = {".".join(it.relative_to(first).with_suffix("").parts) for it in files}
    package = "".join(server.rpartition(".")[:2])
    table: dict[str, str] = {}
    for folder in folders:
        table |= {f"{folder.name}.{it}": f"{first.name}.{it}" for it in shared}
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
    if "conftest" in shared:
        config.pluginmanager.import_plugin(f"{first.name}.conftest")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests of which folder have run on which server."""
    stats, config = terminalreporter.stats, terminalreporter.config
    ran = [it.nodeid for key in ("passed", "failed") for it in stats.get(key, [])]
    counts = Counter(found[0] for it in ran if (found := re.search(r"step\d+_\w+", it)))
    lines = [f"{count} of {folder}" for folder, count in counts.items()]
    terminalreporter.write_line(f"tests on {config.option.server}: {', '.join(lines)}")
