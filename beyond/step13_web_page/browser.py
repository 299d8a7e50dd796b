"""What the tests do with a page in a browser."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    WebSocketRoute,
    expect,
)

from .messages import create_socket_client
from .utils import TestWebSocket, compute_port

TIMEOUT = 5  # seconds
expect.set_options(timeout=TIMEOUT * 1000)
PORT = compute_port()
URL = f"http://127.0.0.1:{PORT}"
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
    url: str = URL,
    *,
    allowed: str = "(?!)",
    line: Line | None = None,
    stop_clock: bool = False,
    **options: Any,
) -> AsyncIterator[Page]:
    """Open a page in its own browser session, and yield it.

    It connects through `line`, if given. With `stop_clock`, its time advances only by
    `page.clock.run_for()`. `options` go to Playwright's `new_context`.
    At the end of the `async with` block, raises `AssertionError` if the page has logged
    an error that the regular expression `allowed` does not match.
    """
    errors: list[str] = []

    def note(error: ConsoleMessage | Error) -> None:
        if isinstance(error, Error) or error.type == "error":
            errors.append(str(error))

    context = await browser.new_context(**options)
    context.set_default_timeout(TIMEOUT * 1000)
    page = await context.new_page()
    page.on("console", note)
    page.on("pageerror", note)
    if line:
        await page.route_web_socket("**/ws", line.connect)
    if stop_clock:
        await page.clock.install(time=0)
        await page.clock.pause_at(1_000)
    try:
        await page.goto(url)
        yield page
        await page.evaluate("0")  # a fence: now all earlier errors have been noted
    finally:
        await context.close()
    assert [error for error in errors if not re.search(allowed, error)] == []


@asynccontextmanager
async def another_member(group_id: str) -> AsyncIterator[TestWebSocket]:
    """Connect a client that joins the group."""
    async with create_socket_client(f"{URL}/ws") as client:
        await client.send_json({"type": "JOIN_GROUP", "value": group_id})
        await client.wait_for_message_count(1)
        yield client


async def say_as(client: TestWebSocket, group_id: str, text: str) -> None:
    """Send a message to the group, and wait until the client hears it."""
    value = {"groupId": group_id, "groupMessage": text}
    await client.send_json({"type": "MESSAGE_GROUP", "value": value})
    await client.wait_for_message({"type": "GROUP_MESSAGE", "value": value})


def lines(page: Page) -> Locator:
    return page.get_by_role("list").get_by_role("listitem")


def messages(page: Page) -> Locator:
    return lines(page).get_by_role("paragraph")


def notes(page: Page) -> Locator:
    return lines(page).locator("small")


def status(page: Page) -> Locator:
    return page.get_by_role("status")


def notice(page: Page) -> Locator:
    return page.locator("[aria-live=polite]")  # a screen reader reads it out


def title(page: Page, name: str = "A") -> Locator:
    return page.get_by_role("heading", name=name, exact=True)


async def create_group(page: Page, name: str = "A") -> str:
    """Create a group, and return its id."""
    await page.get_by_label("Group name").fill(name)
    await page.get_by_role("button", name="Create").click()
    await expect(title(page, name)).to_be_visible()
    return page.url.partition("#")[2]


async def join_group(page: Page, group_id: str, name: str = "A") -> None:
    """Join a group by its id."""
    await page.get_by_label("Group id").fill(group_id)
    await page.get_by_role("button", name="Join").click()
    await expect(title(page, name)).to_be_visible()


async def send(page: Page, text: str) -> None:
    await page.get_by_label("Message").fill(text)
    await page.get_by_role("button", name="Send").click()


async def say(page: Page, text: str) -> None:
    """Send a message, and wait until the page has heard it."""
    count = await messages(page).count()
    await send(page, text)
    await expect(messages(page).nth(count)).to_have_text(text)
    await expect(notes(page).nth(count)).to_have_text(OWN)
