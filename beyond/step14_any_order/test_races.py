"""Servers that go wrong only in some orders: the conversations find each of them.

`races.diff` has an edit of the server for each, under its title. Parts of an edit are
set apart by lines `@@`.
"""

from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

import pytest

from .conversations import talk_to
from .simulation import explore

FOLDER = Path(__file__).parent
RACES = dict(
    part.split("\n", 1)
    for part in f"\n{FOLDER.joinpath('races.diff').read_text()}".split("\n# ")[1:]
)


def edit_server(edit: str) -> ModuleType:
    """Return the server's module after an edit."""
    source = FOLDER.joinpath("server.py").read_text()
    for part in edit.split("@@\n"):
        lines = part.strip("\n").split("\n")
        old, new = [
            "".join(f"{line[1:]}\n" for line in lines if line[0] != sign)
            for sign in "+-"
        ]
        assert source.count(old) == 1, part
        source = source.replace(old, new)
    module = module_from_spec(ModuleSpec(f"{__package__}.racing_server", loader=None))
    exec(compile(source, "server.py", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("edit", RACES.values(), ids=RACES)
async def test_race_is_found(edit: str) -> None:
    server = edit_server(edit)
    with pytest.raises(pytest.fail.Exception):
        await explore(
            talk_to(server.create_websocket_server), orders=3000, shrink=False
        )
