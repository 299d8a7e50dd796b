"""What the tests do with a page in a browser."""

import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Playwright,
    async_playwright,
    expect,
)

from ..connection import Limits
from ..server import create_websocket_server
from ..utils import compute_port, start_server

StartPage = Callable[..., Awaitable[TestServer]]

TIMEOUT = 5  # seconds
expect.set_options(timeout=TIMEOUT * 1000)
URL = f"http://127.0.0.1:{compute_port()}"
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
NO_BROWSER = "no browser: install chromium, or run `playwright install chromium`"


async def launch(playwright: Playwright) -> Browser:
    """Start the first browser that there is."""
    own = playwright.chromium.executable_path
    path = next(filter(None, map(shutil.which, [*BROWSERS, own])), None)
    if path is None:
        pytest.fail(NO_BROWSER, pytrace=False)
    is_root = os.name == "posix" and os.geteuid() == 0
    return await playwright.chromium.launch(
        executable_path=path,
        chromium_sandbox=not is_root,  # root cannot have one
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Start one browser for all tests; each page gets its own session."""
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def start_page() -> AsyncIterator[StartPage]:
    """Return a function that starts servers in the browser's event loop."""
    servers: list[TestServer] = []

    async def listen(
        app: web.Application, *, port: int | None = None, **options: Any
    ) -> TestServer:
        servers.append(TestServer(app, host="127.0.0.1", port=port))
        await servers[-1].start_server(**options)
        return servers[-1]

    async def start(port: int = compute_port(), **values: Any) -> TestServer:
        app = web.Application()
        create_websocket_server(app, Limits(window=0, **values))
        return await start_server(listen, app, port)

    yield start
    for server in servers:
        await server.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page_server(no_server_errors: None, start_page: StartPage) -> TestServer:
    """Start a server with the page; it stops after the test."""
    return await start_page()


@asynccontextmanager
async def open_page(
    browser: Browser,
    url: str = URL,
    *,
    allowed: str = "(?!)",
    prepare: Callable[[Page], Awaitable[None]] | None = None,
    **options: Any,
) -> AsyncIterator[Page]:
    """Open a page in its own browser session, and yield it.

    Before it loads, `prepare` gets it. `options` go to Playwright's `new_context`.
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
    if prepare:
        await prepare(page)
    try:
        await page.goto(url)
        yield page
        await page.evaluate("0")  # a fence: now all earlier errors have been noted
    finally:
        await context.close()
    unexpected = [error for error in errors if not re.search(allowed, error)]
    assert not unexpected, unexpected


def messages(page: Page) -> Locator:
    return page.get_by_role("listitem").get_by_role("paragraph")


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


async def say(page: Page, text: str) -> None:
    """Send a message, and wait until it is on the page."""
    count = await messages(page).count()
    await page.get_by_label("Message").fill(text)
    await page.get_by_role("button", name="Send").click()
    await expect(messages(page).nth(count)).to_have_text(text)
