"""The client is under test: it is cut off, connects and subscribes again."""

import asyncio
import os
from contextlib import suppress

from aiohttp import ClientError, ClientSession

BUG = os.environ.get("BUG")


class Feed:
    """The client: it collects prices, and pauses before it connects again."""

    def __init__(self, url: str, pause: float = 5) -> None:
        self.url, self.pause = url, pause
        self.prices: list[str] = []

    async def run(self) -> None:
        first = True
        async with ClientSession() as session:
            while True:
                with suppress(ClientError):
                    async with session.ws_connect(self.url) as socket:
                        if first or BUG != "resubscribes_not":
                            await socket.send_str("subscribe milk")
                        first = False
                        async for message in socket:
                            self.prices.append(message.data)
                if BUG == "gives_up":
                    return
                await asyncio.sleep(self.pause)
