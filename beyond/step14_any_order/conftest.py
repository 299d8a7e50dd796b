"""What the test files share: `-v` shows every step of the event loop."""

import pytest

from . import simulation


@pytest.fixture(autouse=True)
def show_steps(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports show every step, if pytest runs with `-v`."""
    monkeypatch.setattr(simulation, "verbose", pytestconfig.get_verbosity() > 0)
