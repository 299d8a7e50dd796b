"""Let the tests of the tools import the steps of beyond/, and start pytest quickly."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "beyond"))
# What the steps and the recipes do not need, and takes long to load.
os.environ["PYTEST_ADDOPTS"] = "-p no:hypothesispytest -p no:anyio"


def pytest_configure(config: pytest.Config) -> None:
    """Do without looptime: it leaves an event loop open when no test is async yet."""
    if plugin := config.pluginmanager.get_plugin("looptime_plugin"):
        config.pluginmanager.unregister(plugin)
