"""A page's line to the server, which a test can watch and disturb."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from playwright.async_api import Browser, Locator, Page, WebSocketRoute, expect

from ..messages import URL as SERVER
from ..messages import create_socket_client, join, message
from ..utils import TestWebSocket
from . import browser as plain
from .browser import messages

# The note under a message:
OTHERS = re.compile(r"^\s*\d")
OWN = re.compile(r"^You \d")
UNHEARD = re.compile(r"^You, sending \d")
LOST = re.compile(r"^You, perhaps not delivered \d")
REFUSED = re.compile(r"^You, not delivered \d")


class Line:
    """The connections of a page; a test can watch and disturb them."""

    def __init__(self) -> None:
        """Start by letting everything through."""
        self.sockets: list[WebSocketRoute] = []  # the page's ends
        self.servers: list[WebSocketRoute] = []  # the server's ends
        self.requests: list[Any] = []
        self.answers: list[Any] = []
        self.held: list[str] | None = None
        self.unreachable: str | None = None  # id of a group that cannot be reached

    def connect(self, socket: WebSocketRoute) -> None:
        """Connect the page's socket to the server."""
        server = socket.connect_to_server()
        socket.on_message(partial(self.to_server, server))
        server.on_message(partial(self.to_page, socket))
        self.sockets.append(socket)
        self.servers.append(server)

    def to_server(self, server: WebSocketRoute, frame: str | bytes) -> None:
        """Pass a request on, or hold it."""
        assert isinstance(frame, str)
        self.requests.append(json.loads(frame))
        if self.unreachable:  # so the server refuses it, in order
            frame = frame.replace(self.unreachable, "unreachable")
        if self.held is None:
            server.send(frame)
        else:
            self.held.append(frame)

    def to_page(self, socket: WebSocketRoute, frame: str | bytes) -> None:
        """Pass an answer on."""
        assert isinstance(frame, str)
        if self.unreachable:
            frame = frame.replace("unreachable", self.unreachable)
        self.answers.append(json.loads(frame))
        socket.send(frame)

    def hold(self) -> None:
        """Hold all further requests, like a dead line."""
        self.held = []

    def release(self) -> None:
        """Let the held requests through, and all later ones."""
        for frame in self.held or []:
            self.servers[-1].send(frame)
        self.held = None

    async def cut(self) -> None:
        """End the connection at both ends."""
        self.held = None
        await self.sockets[-1].close()
        await self.servers[-1].close()


@asynccontextmanager
async def open_page(
    browser: Browser,
    url: str = plain.URL,
    *,
    line: Line | None = None,
    stop_clock: bool = False,
    **options: Any,
) -> AsyncIterator[Page]:
    """Open a page that connects through `line`, if given.

    With `stop_clock`, its time advances only by `page.clock.run_for()`.
    """

    async def prepare(page: Page) -> None:
        if line:
            await page.route_web_socket("**/ws", line.connect)
        if stop_clock:
            await page.clock.install(time=0)
            await page.clock.pause_at(1_000)

    async with plain.open_page(browser, url, prepare=prepare, **options) as page:
        yield page


@asynccontextmanager
async def another_member(group_id: str) -> AsyncIterator[TestWebSocket]:
    """Connect a client that joins the group."""
    async with create_socket_client(SERVER) as client:
        await client.send_json(join(group_id))
        await client.wait_for_message_count(1)
        yield client


async def say_as(client: TestWebSocket, group_id: str, text: str) -> None:
    """Send a message to the group, and wait until the client hears it."""
    request = message(group_id, text)
    await client.send_json(request)
    await client.wait_for_message({**request, "type": "GROUP_MESSAGE"})


def lines(page: Page) -> Locator:
    return page.get_by_role("list").get_by_role("listitem")


def notes(page: Page) -> Locator:
    return lines(page).locator("small")


async def send(page: Page, text: str) -> None:
    await page.get_by_label("Message").fill(text)
    await page.get_by_role("button", name="Send").click()


async def say(page: Page, text: str) -> None:
    """Send a message, and wait until the page has heard it."""
    count = await messages(page).count()
    await send(page, text)
    await expect(messages(page).nth(count)).to_have_text(text)
    await expect(notes(page).nth(count)).to_have_text(OWN)
