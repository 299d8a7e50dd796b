"""Take the screenshot of beyond/README.md: two pages in a conversation."""

import asyncio
import os
import shutil
import sys
from base64 import b64encode

from aiohttp import web
from playwright.async_api import (
    Browser,
    Page,
    ViewportSize,
    async_playwright,
    expect,
)
from step13_web_page.server import create_websocket_server

WIDTH, HEIGHT = 360, 560  # CSS pixels: a phone's
NAMES = ["chromium", "chromium-browser", "google-chrome"]
SAID = [
    "Is anybody here?",
    "Yes! Came by your link.",
    "Sunday, 9:30, at the station?",
    "9:30 it is. I bring the map.",
]


async def open_page(browser: Browser, url: str) -> Page:
    """Open the page in a phone's size, as a visitor of its own."""
    size = ViewportSize(width=WIDTH, height=HEIGHT)
    context = await browser.new_context(viewport=size, device_scale_factor=2)
    page = await context.new_page()
    await page.goto(url)
    return page


async def talk(page1: Page, page2: Page) -> None:
    """Say what there is to say, in turns."""
    for number, text in enumerate(SAID, start=1):
        page = page2 if number % 2 == 0 else page1
        await page.get_by_label("Message").fill(text)
        await page.get_by_role("button", name="Send").click()
        for other in page1, page2:
            await expect(other.get_by_role("listitem")).to_have_count(number)


async def take_screenshot(browser: Browser, url: str, path: str) -> None:
    """Write the picture of both pages, side by side, to `path`."""
    page1 = await open_page(browser, url)
    await page1.get_by_label("Group name").fill("Sunday hike")
    await page1.get_by_role("button", name="Create").click()
    await expect(page1.get_by_role("heading", name="Sunday hike")).to_be_visible()
    page2 = await open_page(browser, page1.url)
    await talk(page1, page2)

    pictures = [b64encode(await page.screenshot()).decode() for page in (page1, page2)]
    frame = f"width:{WIDTH}px;border:1px solid #8490a3;border-radius:12px"
    both = "".join(
        f"<img style='{frame}' src='data:image/png;base64,{picture}'>"
        for picture in pictures
    )
    size = ViewportSize(width=2 * WIDTH + 50, height=HEIGHT + 40)
    context = await browser.new_context(viewport=size)
    page = await context.new_page()
    style = "display:flex;gap:16px;padding:8px"
    await page.set_content(
        f"<body style='margin:0'><div id=both style='{style}'>{both}"
    )
    await page.locator("#both").screenshot(path=path, omit_background=True)


async def main(path: str) -> None:
    """Start a server and a browser, and take the screenshot."""
    app = web.Application()
    create_websocket_server(app)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with async_playwright() as playwright:
            own = playwright.chromium.executable_path
            found = next(filter(None, map(shutil.which, [*NAMES, own])), None)
            if found is None:
                sys.exit("no browser: install chromium, or google-chrome")
            sandbox = os.name != "posix" or os.geteuid() != 0
            browser = await playwright.chromium.launch(
                executable_path=found, chromium_sandbox=sandbox
            )
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
            await take_screenshot(browser, url, path)
            await browser.close()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main("beyond/step13_web_page/screenshot.png"))
