"""Tests of the page, in a browser."""

import pytest
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, expect

from .messages import URL as SERVER
from .messages import create_socket_client, group_message, join, message, send
from .more.browser import (
    URL,
    StartPage,
    create_group,
    join_group,
    messages,
    notice,
    status,
    title,
)
from .more.line import Line, open_page, say

# All tests share the browser, so they share its event loop.
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.usefixtures("page_server"),
]
CONNECTION_REFUSED = "WebSocket .* failed: Error in connection establishment"
MARKUP = """<img src=x onerror="document.title = 'broken'">"""


async def test_two_pages_talk_and_a_third_hears_nothing(browser: Browser) -> None:
    line = Line()  # to see what a page receives, not only what it shows

    async with (
        open_page(browser) as page1,
        open_page(browser) as page2,
        open_page(browser, line=line) as page3,
    ):
        await join_group(page2, await create_group(page1))
        await create_group(page3)

        await say(page1, "HI")
        await say(page2, "HI")
        await say(page2, "last")
        await say(page3, "a fence")

        await expect(messages(page1)).to_have_text(["HI", "HI", "last"])
        await expect(messages(page2)).to_have_text(["HI", "HI", "last"])
        await expect(messages(page3)).to_have_text(["a fence"])

    types = [answer["type"] for answer in line.answers]
    assert types == ["GROUP_CREATED", "ECHO", "GROUP_MESSAGE"]


async def test_page_and_client_in_one_group(browser: Browser) -> None:
    async with open_page(browser) as page, create_socket_client(SERVER) as client:
        group_id = await create_group(page)
        await client.send_json(join(group_id))
        await client.send_json(message(group_id, "from the client"))
        await expect(messages(page)).to_have_text(["from the client"])
        await say(page, "from the page")

    texts = ["from the client", "from the page"]
    assert client.messages[1:3] == [group_message(group_id, text) for text in texts]


async def test_message_is_text(browser: Browser) -> None:
    async with open_page(browser) as page1, open_page(browser) as page2:
        await join_group(page2, await create_group(page1, MARKUP), MARKUP)
        await say(page1, MARKUP)

        for page in page1, page2:
            await expect(messages(page)).to_have_text([MARKUP])
            await expect(page.locator("img")).to_have_count(0)
            await expect(page).to_have_title(MARKUP)


async def test_address_invites(browser: Browser) -> None:
    async with open_page(browser) as page1:
        await create_group(page1)
        async with open_page(browser, page1.url) as page2:
            await expect(title(page2)).to_be_visible()
            await say(page2, "HI")
            await expect(messages(page1)).to_have_text(["HI"])


async def test_leave(browser: Browser) -> None:
    async with open_page(browser) as page1, open_page(browser) as page2:
        group_id = await create_group(page1)
        await join_group(page2, page1.url)  # it works as well as the id
        await page2.get_by_role("button", name="Leave").click()
        await create_group(page2, "B")
        await say(page1, "without 2")
        await say(page2, "a fence")
        await expect(messages(page2)).to_have_text(["a fence"])

        await page1.get_by_role("button", name="Leave").click()
        await page2.goto(f"{URL}/#{group_id}")
        await expect(notice(page2)).to_contain_text("This group does not exist")


async def test_server_stops_and_comes_back(
    browser: Browser, page_server: TestServer, start_page: StartPage
) -> None:
    async with open_page(browser, allowed=CONNECTION_REFUSED) as page:
        await create_group(page)
        await page_server.close()
        await expect(status(page)).to_have_text("disconnected")

        await start_page()
        # The pauses have grown, at most to twice the time that this has taken.
        await expect(status(page)).to_have_text("connected", timeout=30_000)
        await page.get_by_role("button", name="Leave").click()
        await create_group(page, "B")
        await say(page, "after")


async def test_page_rejoins_its_group(browser: Browser) -> None:
    line = Line()
    async with (
        open_page(browser, line=line) as page,
        create_socket_client(SERVER) as client,
    ):
        group_id = await create_group(page)
        await send(client, join(group_id))
        await line.cut()
        await expect(status(page)).to_have_text("disconnected")
        await expect(status(page)).to_have_text("connected")
        await expect(notice(page)).to_be_empty()  # it has joined again
        await say(page, "back")

    assert client.messages[1:] == [group_message(group_id, "back")]


CONNECT = """url => new Promise(resolve => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("error");
})"""


async def test_page_of_another_origin_may_not_connect(
    browser: Browser, start_page: StartPage
) -> None:
    elsewhere = str((await start_page(0)).make_url("/"))
    refused = "response code: 403|404 .Not Found."  # there is no icon, either

    async with (
        open_page(browser) as page,
        open_page(browser, elsewhere, allowed=refused, bypass_csp=True) as other,
    ):
        assert await page.evaluate(CONNECT, SERVER) == "open"
        assert await other.evaluate(CONNECT, SERVER) == "error"
