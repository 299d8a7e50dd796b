"""Edits that the chapters show and that are too long for a comment in the text.

Each is what is replaced, and what replaces it.
"""

ECHOES_TWICE = (
    """\
                        await socket.send_str(message.data)
""",
    """\
                        await socket.send_str(message.data)
                        await socket.send_str(message.data)
""",
)
LEAKS_LATE = [
    ("import json\n", "import asyncio\nimport json\n"),
    (
        """\
            case {"type": "ECHO", "value": str(value)}:
                await socket.send_str(value)
""",
        """\
            case {"type": "ECHO", "value": str(value)}:
                await asyncio.sleep(0.02)  # for example, a database query
                await broadcast(clients, value)
""",
    ),
]
TEST_OF_AN_OUTSIDER = """\
from step4_multi_message.utils import create_socket_client

from .test_server import PORT, server


async def test_outsider_hears_no_echo() -> None:
    async with (
        create_socket_client(PORT) as (sender, _),
        create_socket_client(PORT) as (_, outsider_messages),
    ):
        await sender.send_json({"type": "ECHO", "value": "secret"})

    assert outsider_messages == []
"""
WITH_THE_HELPER_OF_STEP_5 = "from .utils import create_socket_client"
CLOSES_WHO_JOINS = (
    """\
        groups[name].add(socket)
        await socket.send_str(name)
""",
    """\
        groups[name].add(socket)
        await socket.send_str(name)
        await socket.close()
""",
)
FORGETS_OUTSIDERS_THAT_SPEAK = (
    """\
                    await broadcast(groups[name], text)
""",
    """\
                    await broadcast(groups[name], text)
                else:
                    clients.discard(socket)
""",
)
ECHOES_TO_OTHERS_LATER = (
    """\
            case {"type": "ECHO", "value": str(value)}:
                await send([socket], "ECHO", value)
""",
    """\
            case {"type": "ECHO", "value": str(value)}:
                await send([socket], "ECHO", value)
                loop = asyncio.get_running_loop()
                others = self.clients - {socket}
                loop.call_later(
                    0.5, lambda: loop.create_task(send(others, "ECHO", value))
                )
""",
)
ALLOWS_WHAT_BEGINS_ALIKE = (
    """\
    if request.headers.get("Origin") not in (None, own_origin, *origins):
""",
    """\
    allowed = (own_origin, *origins)
    if not request.headers.get("Origin", own_origin).startswith(allowed):
""",
)
SENDS_WITHOUT_THE_LOCK = (
    """\
                async with self.lock:
                    await self.message_group(socket, name, text)
""",
    """\
                await self.message_group(socket, name, text)
""",
)
