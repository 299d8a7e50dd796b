"""More tests of the page, in a browser."""

import asyncio
import re
from functools import partial

import pytest
from aiohttp.test_utils import TestServer
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import (
    Browser,
    Page,
    Route,
    ViewportSize,
    WebSocketRoute,
    expect,
)

from . import browser as plain
from .browser import URL, create_group, join_group, messages, notice, status, title
from .line import (
    LOST,
    OTHERS,
    OWN,
    REFUSED,
    UNHEARD,
    Line,
    another_member,
    lines,
    notes,
    open_page,
    say,
    say_as,
    send,
)

# All tests share the browser, so they share its event loop.
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.usefixtures("page_server"),
]

CONNECTION_REFUSED = "WebSocket .* failed: Error in connection establishment"
MARKUP = """<img src=x onerror="document.title = 'broken'">"""


TRYING = re.compile(r"^Trying again in \d+ s$")


async def test_refused_groups(browser: Browser, start_page: plain.StartPage) -> None:
    url = str((await start_page(0, groups=0)).make_url("/"))

    async with open_page(browser, f"{url}#unknown") as page:
        await expect(notice(page)).to_contain_text("This group does not exist, or")
        await expect(page).to_have_url(f"{url}#unknown")
        await expect(page.get_by_label("Group id")).to_have_value("unknown")
        await page.get_by_label("Group name").fill("one too many")
        await page.get_by_role("button", name="Create").click()
        await expect(notice(page)).to_contain_text("The server refused to create this")


async def test_leave_and_come_back(browser: Browser) -> None:
    line = Line()
    async with open_page(browser) as page1, open_page(browser, line=line) as page2:
        group_id = await create_group(page1)
        await join_group(page2, group_id)
        await say(page2, "before")
        await page2.get_by_label("Message").fill("a draft")

        await page2.get_by_role("button", name="Leave").click()
        await expect(page2).to_have_url(f"{URL}/")
        other_id = await create_group(page2, "B")
        await expect(page2.get_by_label("Message")).to_have_value("")
        await say(page1, "without 2")
        await say(page2, "a fence")
        await expect(messages(page2)).to_have_text(["a fence"])

        await page2.go_back()
        await expect(page2.get_by_role("button", name="Create")).to_be_visible()
        await page2.go_forward()
        await expect(notice(page2)).to_contain_text("This group does not exist")
        await page2.goto(f"{URL}/#{group_id}")
        await expect(title(page2)).to_be_visible()
        await say(page1, "back")
        await expect(messages(page2)).to_have_text(["back"])
        await expect(messages(page1)).to_have_text(["before", "without 2", "back"])

    left = [said["value"] for said in line.answers if said["type"] == "GROUP_LEFT"]
    assert left == [group_id, other_id]


async def test_double_clicks(browser: Browser) -> None:
    line = Line()
    # With `dblclick()`, the second click can come too late: the button has gone.
    twice = "button => { button.click(); button.click(); }"

    async with open_page(browser, line=line) as page:
        await page.get_by_label("Group name").fill("A")
        await page.get_by_role("button", name="Create").evaluate(twice)
        await expect(title(page)).to_be_visible()
        await page.get_by_label("Message").fill("once")
        await page.get_by_role("button", name="Send").evaluate(twice)
        await say(page, "a fence")

    types = [request["type"] for request in line.requests]
    assert types == ["CREATE_GROUP", *["ECHO", "MESSAGE_GROUP"] * 2]


async def test_keyboard(browser: Browser) -> None:
    async with open_page(browser) as page:
        press, write = page.keyboard.press, page.keyboard.insert_text
        await press("Tab")
        await expect(page.get_by_label("Group name")).to_be_focused()
        await write("A")
        await press("Enter")
        await expect(page.get_by_label("Message")).to_be_focused()
        await write("two")
        await press("Shift+Enter")
        await write("lines")
        composing = {"key": "Enter", "isComposing": True}  # ends a word in Japanese
        await page.get_by_label("Message").dispatch_event("keydown", composing)
        await expect(lines(page)).to_have_count(0)
        await press("Enter")
        await expect(page.get_by_label("Message")).to_have_value("")
        await press("Enter")  # blank messages are not sent
        await write(" \n\u200b\t")
        await press("Enter")
        await say(page, "last")
        assert await messages(page).all_inner_texts() == ["two\nlines", "last"]

        await press("Shift+Tab")  # to the conversation, to scroll it
        await press("Shift+Tab")
        await expect(page.get_by_role("button", name="Leave")).to_be_focused()
        await press("Enter")
        await expect(page.get_by_label("Group name")).to_be_focused()


async def test_long_conversation(browser: Browser) -> None:
    async with open_page(browser) as page:
        group_id = await create_group(page)
        async with another_member(group_id) as client:
            for number in range(1, 1002):
                value = {"groupId": group_id, "groupMessage": f"{number}"}
                await client.send_json({"type": "MESSAGE_GROUP", "value": value})

            await expect(messages(page).last).to_have_text("1001", timeout=30_000)
        await expect(lines(page)).to_have_count(1000)
        await expect(messages(page).first).to_have_text("2")


async def test_own_messages(browser: Browser) -> None:
    line = Line()
    async with open_page(browser, line=line) as page:
        group_id = await create_group(page)
        async with another_member(group_id) as client:
            line.hold()
            await send(page, "HI")
            await send(page, "HI again")
            await expect(notes(page)).to_have_text([UNHEARD, UNHEARD])

            await client.send_json({"type": "ECHO_TO_ALL", "value": "HI"})
            await say_as(client, group_id, "HI")  # the same text, from somebody else
            await expect(messages(page)).to_have_text(["HI", "HI", "HI again"])
            await expect(notes(page)).to_have_text([OTHERS, UNHEARD, UNHEARD])
            line.release()
            await expect(notes(page)).to_have_text([OTHERS, OWN, OWN])

        await expect(lines(page).locator("time[datetime]")).to_have_count(3)
        others, own = (lines(page).nth(index) for index in (0, 1))
        color = "line => getComputedStyle(line).backgroundColor"
        assert await own.evaluate(color) != await others.evaluate(color)


async def test_refused_messages_stay_marked(browser: Browser) -> None:
    line = Line()
    async with open_page(browser, line=line) as page:
        line.unreachable = await create_group(page)
        await send(page, "one")
        await send(page, "two")
        await expect(notes(page)).to_have_text([REFUSED, REFUSED])
        await expect(notice(page)).to_contain_text("The group cannot be reached")

        line.unreachable = None
        await say(page, "after")
        await expect(messages(page)).to_have_text(["one", "two", "after"])
        await expect(notes(page)).to_have_text([REFUSED, REFUSED, OWN])

        await page.get_by_label("Message").evaluate("field => field.value = '\\ud800'")
        await page.get_by_role("button", name="Send").click()
        await expect(notice(page)).to_contain_text("did not accept this message")
        await expect(notes(page)).to_have_text([REFUSED, REFUSED, OWN, REFUSED])


async def test_dead_line_is_noticed(browser: Browser) -> None:
    line = Line()
    async with open_page(browser, line=line, stop_clock=True) as page:
        group_id = await create_group(page)
        async with another_member(group_id):
            for _ in range(3):  # silent, but alive
                await page.clock.run_for(20_000)
                await say(page, "a fence")
            assert len(line.sockets) == 1

            line.hold()
            await send(page, "lost")
            await expect(notes(page).last).to_have_text(UNHEARD)
            await page.clock.run_for(9_000)
            await expect(status(page)).to_have_text("connected")
            await page.clock.run_for(1_000)
            await expect(status(page)).to_have_text("disconnected")
            await expect(messages(page).last).to_have_text("lost")
            await expect(notes(page).last).to_have_text(LOST)

            line.held = None
            await page.evaluate("dispatchEvent(new Event('online'))")
            await expect(lines(page).last).to_contain_text("may be missing here")
            await page.clock.run_for(20_000)
            await say(page, "back")
            line.hold()
            await page.clock.run_for(30_000)  # no answer this time
            await expect(status(page)).to_have_text("disconnected")


async def test_draft_and_gap_after_a_reconnect(browser: Browser) -> None:
    line = Line()
    async with open_page(browser, line=line, stop_clock=True) as page:
        group_id = await create_group(page)
        async with another_member(group_id) as client:
            await say(page, "before")
            await page.get_by_label("Message").fill("a draft")

            await line.cut()
            await expect(status(page)).to_have_text("disconnected")
            await say_as(client, group_id, "in the meantime")
            line.hold()
            await page.clock.run_for(500)
            await expect(status(page)).to_have_text("connected")
            await page.get_by_role("button", name="Send").click()  # not a member yet
            await expect(notice(page)).to_contain_text("Not sent")
            line.release()
            await expect(lines(page).last).to_contain_text("may be missing here")
            await page.get_by_role("button", name="Send").click()
            await expect(notes(page)).to_have_text([OWN, OWN])

        await expect(messages(page)).to_have_text(["before", "a draft"])

    texts = [message["value"].get("groupMessage") for message in client.messages]
    assert texts == [None, "before", "in the meantime", "a draft"]


async def test_group_that_cannot_be_reached_for_a_while(browser: Browser) -> None:
    line = Line()
    async with open_page(browser, line=line, stop_clock=True) as page:
        group_id = await create_group(page)
        async with another_member(group_id):
            line.unreachable = group_id
            await line.cut()
            await expect(status(page)).to_have_text("disconnected")
            await page.clock.run_for(500)
            await expect(notice(page)).to_contain_text("Trying again")
            await expect(title(page)).to_be_visible()
            line.unreachable = None
            await page.clock.run_for(1_000)
            await expect(notice(page)).to_be_empty()
            await say(page, "back")

            line.unreachable = group_id
            await line.cut()
            await expect(status(page)).to_have_text("disconnected")
            await page.clock.run_for(1_000)
            await expect(notice(page)).to_contain_text("Trying again")
            await page.clock.run_for(8_000)
            await page.clock.run_for(1_000)  # an attempt may have been running
            await expect(notice(page)).to_contain_text("This group is gone, or cannot")
            await expect(page).to_have_url(f"{URL}/#{group_id}")
            await expect(page.get_by_label("Group name")).to_be_focused()
            line.unreachable = None
            await page.get_by_role("button", name="Join").click()  # the id is there
            await expect(lines(page).last).to_contain_text("may be missing here")
            await expect(messages(page)).to_have_text(["back"])


async def test_wishes_while_the_server_is_away(
    browser: Browser, page_server: TestServer, start_page: plain.StartPage
) -> None:
    async with open_page(browser, allowed=CONNECTION_REFUSED) as page:
        await create_group(page)
        await page_server.close()
        await expect(status(page)).to_have_text("disconnected")
        await send(page, "too early")
        await expect(notice(page)).to_contain_text("Not sent")
        await expect(page.get_by_label("Message")).to_have_value("too early")
        await page.get_by_role("button", name="Leave").click()
        await page.get_by_label("Group name").fill("B")
        await page.get_by_role("button", name="Create").click()
        await expect(notice(page)).to_contain_text("Waiting for the connection")
        await start_page()

        # The pauses have grown, at most to twice the time that this has taken.
        await expect(title(page, "B")).to_be_visible(timeout=30_000)
        await say(page, "after")


async def test_pauses_between_attempts(browser: Browser) -> None:
    line = Line()
    shares = []  # of the longest possible pause

    async with open_page(browser, line=line, stop_clock=True) as page:
        for number in range(1, 11):
            await expect(status(page)).to_have_text("connected")
            await line.cut()
            await expect(page.get_by_text(TRYING)).to_be_visible()
            longest = min(500 * 2 ** (number - 1), 30_000)  # milliseconds
            share = 0.45
            await page.clock.run_for(longest * share)
            assert len(line.sockets) == number
            while len(line.sockets) == number:
                await page.clock.run_for(longest * 0.05)
                share += 0.05
            shares.append(share)

        await expect(status(page)).to_have_text("connected")
        await page.clock.run_for(11_000)  # a good connection: the pause is short again
        await line.cut()
        await expect(page.get_by_text("Trying again in 1 s")).to_be_visible()
        await page.get_by_role("button", name="Try now").click()
        await expect(status(page)).to_have_text("connected")
        await expect(page.get_by_role("button", name="Try now")).to_be_hidden()
        await expect(page.get_by_label("Group name")).to_be_focused()
        await page.clock.run_for(15_000)  # and no second attempt
        assert len(line.sockets) == 12

    assert max(shares) < 1.15
    assert min(shares) < 0.9  # jitter; without it, each page waits for the whole pause


async def test_attempt_that_hangs(browser: Browser) -> None:
    may_end = asyncio.Event()

    async def hang(_socket: WebSocketRoute) -> None:
        await may_end.wait()

    async with open_page(browser, "about:blank", stop_clock=True) as page:
        await page.route_web_socket("**/ws", hang)
        await page.goto(URL)
        await page.clock.run_for(9_000)
        await expect(page.get_by_role("button", name="Try now")).to_be_hidden()
        await page.clock.run_for(1_000)
        await expect(page.get_by_role("button", name="Try now")).to_be_visible()
        may_end.set()


NONSENSE: list[str | bytes] = [
    "{",
    "null",
    "[" * 100_000,
    b'{"type": "GROUP_JOINED"}',
    '{"type": "GROUP_MESSAGE"}',
    '{"type": "GROUP_MESSAGE", "value": {"groupId": "B", "groupMessage": "no"}}',
    '{"type": "GROUP_CREATED", "value": {"groupId": 7, "groupName": "no"}}',
    '{"type": "GROUP_JOINED", "value": {"groupId": "B", "groupName": "no"}}',
    '{"type": "GROUP_UNAVAILABLE", "value": "B"}',
    '{"type": "__proto__", "value": {"__proto__": null}}',
]


async def test_nonsense_from_the_server(browser: Browser) -> None:
    def talk_nonsense(socket: WebSocketRoute, frame: str | bytes) -> None:
        for nonsense in [*NONSENSE, frame]:
            socket.send(nonsense)

    def connect(socket: WebSocketRoute) -> None:
        socket.connect_to_server().on_message(partial(talk_nonsense, socket))

    async with open_page(browser, "about:blank") as page:
        await page.route_web_socket("**/ws", connect)
        await page.goto(URL)
        for name in "A", "C":
            await create_group(page, name)
            await say(page, "HI")
            await say(page, "HO")
            await expect(messages(page)).to_have_text(["HI", "HO"])
            await page.get_by_role("button", name="Leave").click()


@pytest.mark.parametrize(("width", "height"), [(320, 256), (640, 300)])
async def test_small_screen(browser: Browser, width: int, height: int) -> None:
    viewport = ViewportSize(width=width, height=height)
    async with open_page(browser, viewport=viewport) as page:
        await create_group(page)
        await say(page, "y" * 1000)
        log = page.get_by_role("log")
        await log.evaluate("log => { log.scrollTop = -1000; }")  # scroll up
        await say(page, "last")

        assert await log.evaluate("log => log.clientHeight") >= 120  # CSS pixels
        await expect(log).to_be_in_viewport(ratio=1)
        await expect(messages(page).last).to_be_in_viewport(ratio=1)
        await expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)

        await page.get_by_role("button", name="Leave").click()
        await create_group(page, "x" * 100)  # a title over many lines
        await say(page, "z" * 1000)
        assert await log.evaluate("log => log.clientHeight") >= 96
        for element in log, page.locator("html"):
            widths = await element.evaluate("e => [e.scrollWidth, e.clientWidth]")
            assert widths[0] == widths[1]  # no scrolling in two directions


SIDES = """words => [...words.firstChild.data.matchAll(/.+/g)].map(line => {
    const range = document.createRange();
    range.setStart(words.firstChild, line.index);
    range.setEnd(words.firstChild, line.index + line[0].length);
    const [inner, outer] = [range, words].map(it => it.getBoundingClientRect());
    return inner.left - outer.left > outer.right - inner.right ? "right" : "left";
})"""


async def test_right_to_left_text(browser: Browser) -> None:
    async with open_page(browser) as page:
        await create_group(page)
        await say(page, "\u05d0\u05d1\u05d2\nabc\nnothing is longer than this line")

        sides = await messages(page).evaluate(SIDES)
        assert sides[:2] == ["right", "left"]
        await expect(messages(page)).to_have_attribute("dir", "auto")


async def check_accessibility(page: Page) -> None:
    """Check the page with axe-core."""
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_accessibility(
    browser: Browser, page_server: TestServer, scheme: str
) -> None:
    line = Line()
    async with open_page(
        browser, line=line, allowed=CONNECTION_REFUSED, color_scheme=scheme
    ) as page:
        await check_accessibility(page)
        group_id = await create_group(page)
        await check_accessibility(page)
        async with another_member(group_id) as client:
            await say(page, "own")
            await say_as(client, group_id, "said")
            line.unreachable = group_id
            await send(page, "refused")
            await expect(notes(page).last).to_have_text(REFUSED)
            await check_accessibility(page)
            line.unreachable = None
            line.hold()
            await send(page, "unheard")
            await check_accessibility(page)
            await line.cut()
            await expect(lines(page).last).to_contain_text("may be missing here")
            await check_accessibility(page)
        await page_server.close()
        await expect(status(page)).to_have_text("disconnected")
        await check_accessibility(page)

        background = "main => getComputedStyle(main).backgroundColor"
        color = await page.locator("main").evaluate(background)
        assert (color != "rgb(255, 255, 255)") == (scheme == "dark")


async def test_opener_cannot_reach_the_page(browser: Browser) -> None:
    elsewhere = URL.replace("127.0.0.1", "localhost")

    async def serve(page: Page) -> None:
        await page.route(f"{elsewhere}/**", lambda route: route.fulfill(body="HI"))

    async with plain.open_page(browser, elsewhere, prepare=serve) as other:
        async with other.expect_popup() as opening:
            await other.evaluate("url => { window.opened = open(url); }", URL)
        await expect(status(await opening.value)).to_have_text("connected")
        assert await other.evaluate("opened.closed")


async def test_page_behind_tls(browser: Browser) -> None:
    opened: list[str] = []

    async def serve(route: Route) -> None:
        path = route.request.url.removeprefix("https://chat.example")
        await route.fulfill(response=await route.fetch(url=f"{URL}{path}"))

    async with open_page(browser, "about:blank") as page:
        await page.route("https://chat.example/**", serve)
        await page.route_web_socket("**", lambda socket: opened.append(socket.url))
        await page.goto("https://chat.example/")
        await expect(status(page)).to_have_text("connected")

    assert opened == ["wss://chat.example/ws"]


async def test_page_allows_nothing_else(browser: Browser) -> None:
    add = """markup => new Promise(resolve => {
        addEventListener("securitypolicyviolation", resolve);
        document.body.insertAdjacentHTML("beforeend", markup);
    })"""
    async with open_page(browser, allowed="Content Security Policy") as page:
        await page.evaluate(add, MARKUP)
        await expect(page).to_have_title("Groups")


async def test_page_works_with_its_first_scripts_alone(browser: Browser) -> None:
    async def prepare(page: Page) -> None:
        others = re.compile("/more/(own|silence|countdown|gap)[.]js")
        await page.route(others, lambda route: route.abort())

    opening = [
        plain.open_page(browser, prepare=prepare, allowed="Failed to load resource")
        for _ in "12"
    ]
    async with opening[0] as page1, opening[1] as page2:
        await join_group(page2, await create_group(page1))
        await plain.say(page1, "HI")
        await plain.say(page2, "HO")
        await expect(messages(page1)).to_have_text(["HI", "HO"])
        await page2.get_by_role("button", name="Leave").click()
        await expect(page2.get_by_role("button", name="Create")).to_be_visible()
