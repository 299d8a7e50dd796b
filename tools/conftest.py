"""Let the tests of the tools import the steps of beyond/, and start pytest quickly."""

import os
import sys
from pathlib import Path

import pytest

from tools.readme import PLUGINS

sys.path.insert(0, str(Path(__file__).parent.parent / "beyond"))
os.environ |= {"CI": "", "BUILD_NUMBER": ""}  # or pytest prints each report twice
os.environ["PYTEST_ADDOPTS"] = PLUGINS


def pytest_configure(config: pytest.Config) -> None:
    """Do without looptime: it leaves an event loop open when no test is async yet."""
    if plugin := config.pluginmanager.get_plugin("looptime_plugin"):
        config.pluginmanager.unregister(plugin)
