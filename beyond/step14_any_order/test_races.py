"""Servers that go wrong only in some orders: the conversations find each of them."""

from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

import pytest

from . import server
from .conversations import talk_to
from .simulation import explore

SOURCE = Path(server.__file__).read_text()
# Parts of the server that the edits below replace, wherever they stand.
CREATE, JOIN, MESSAGE = [
    f"async with self.lock:\n                    await self.{name}_group("
    for name in ("create", "join", "message")
]
NEW_GROUP = "            await self.move(socket, name)\n\n    async def join"
LEAVE = "        await self.leave(socket)\n        await self.store.add"
MOVE = """\
        await self.leave(socket)
        await self.store.add_member(socket, name)
        self.clients[socket] = name
"""
CONFIRM = "        await send([socket], name)\n"
BROADCAST = "await send(list(self.clients), value)\n"
REGISTER = "        self.clients[socket] = None\n        try:\n"
ANSWER = "await self.answer(socket, parse(message.data))\n"
LOCK = "self.lock = asyncio.Lock()\n"
LOCKS = (
    "import collections\n        self.locks = collections.defaultdict(asyncio.Lock)\n"
)
WAIT = "await asyncio.sleep(0.001)\n"
Edit = tuple[str, str]


def unlock(call: str) -> Edit:
    """Return the edit that makes a call without the lock."""
    return call, call.partition("\n")[2].lstrip()


RACES: dict[str, list[Edit]] = {
    "checks a name, waits, takes it": [unlock(CREATE)],
    "reads the members, waits, sends": [unlock(MESSAGE)],
    "changes groups without the lock": [unlock(JOIN)],
    "confirms before it joins": [unlock(JOIN), (MOVE + CONFIRM, CONFIRM + MOVE)],
    "confirms after others could act": [
        unlock(MESSAGE),
        (CONFIRM, f"        {WAIT}{CONFIRM}"),
    ],
    "confirms in a task": [
        (CONFIRM, "        asyncio.create_task(send([socket], name))\n")
    ],
    "is in two groups for a moment": [
        unlock(MESSAGE),
        (
            MOVE,
            "        old = self.clients[socket]\n"
            "        await self.store.add_member(socket, name)\n"
            "        if old not in (None, name):\n"
            "            await self.store.remove_member(socket, old)\n"
            "        self.clients[socket] = name\n",
        ),
    ],
    "leaves its group in a task": [
        (
            "await self.leave(socket)\n        await",
            "asyncio.create_task(self.leave(socket))\n        await",
        )
    ],
    "has a group without its creator for a moment": [
        unlock(CREATE),
        (
            "await self.store.has_group(name):\n            await send",
            "name in self.store.members_of or self.store.members_of.setdefault(\n"
            "            name, {}\n"
            "        ):\n            await send",
        ),
    ],
    "registers a client a moment later": [
        (
            REGISTER,
            "        loop = asyncio.get_running_loop()\n"
            "        loop.call_later(0.001, self.clients.setdefault, socket, None)\n"
            "        try:\n",
        )
    ],
    "walks the clients while it waits": [
        (
            BROADCAST,
            f"for client in self.clients:\n                    {WAIT}"
            "                    await send([client], value)\n",
        )
    ],
    "broadcasts in turns": [
        (
            BROADCAST,
            f"for client in list(self.clients):\n                    {WAIT}"
            "                    await send([client], value)\n",
        )
    ],
    "broadcasts in parts that overtake each other": [
        (
            BROADCAST,
            f"async def tell(client):\n                    {WAIT}"
            "                    await send([client], value)\n\n"
            "                await asyncio.gather(*map(tell, self.clients))\n",
        )
    ],
    "answers each message in a task": [
        (
            ANSWER,
            f"asyncio.create_task(self.{ANSWER.removeprefix('await self.')[:-1]})\n",
        )
    ],
    "shares a variable": [
        (
            f"{MESSAGE}socket, name, text",
            f"self.text = text\n                {MESSAGE}socket, name, self.text",
        )
    ],
    "has a lock for each group": [(LOCK, LOCKS), ("self.lock:", "self.locks[name]:")],
    "has a lock for each client": [
        (LOCK, LOCKS),
        ("self.lock:", "self.locks[socket]:"),
    ],
    "has another lock for messages": [
        (LOCK, f"{LOCK}        self.other = asyncio.Lock()\n"),
        (MESSAGE, MESSAGE.replace("self.lock", "self.other")),
    ],
}


def edit_server(edits: list[Edit]) -> ModuleType:
    """Return the server's module after some edits."""
    source = SOURCE
    for old, new in edits:
        assert old in source, old
        source = source.replace(old, new)
    spec = ModuleSpec(f"{__package__}.racing_server", loader=None)
    module = module_from_spec(spec)
    exec(compile(source, "server.py", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("edits", RACES.values(), ids=RACES)
async def test_race_is_found(edits: list[Edit]) -> None:
    racing_server = edit_server(edits)
    with pytest.raises(pytest.fail.Exception):
        await explore(
            talk_to(racing_server.create_websocket_server), orders=3000, shrink=False
        )
