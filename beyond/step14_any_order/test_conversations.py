"""Conversations that nobody has written, in any order of events."""

from .conversations import talk_to
from .server import create_websocket_server
from .simulation import explore


async def test_conversations_in_any_order() -> None:
    await explore(talk_to(create_websocket_server))
