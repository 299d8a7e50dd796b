"""Tests of the page, in a browser."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession, ClientTimeout, WSServerHandshakeError, web
from aiohttp.test_utils import TestServer
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Route,
    WebSocket,
    WebSocketRoute,
    async_playwright,
    expect,
)
from pytest_aiohttp import AiohttpServer

from .processes import start_process
from .server import create_websocket_server
from .utils import bounded, compute_port, create_socket_client, start_server

# The browser serves all the tests, so they share its event loop.
pytestmark = pytest.mark.asyncio(loop_scope="session")

TIMEOUT = 5  # seconds
expect.set_options(timeout=TIMEOUT * 1000)
PORT = compute_port()
URL = f"http://127.0.0.1:{PORT}"
MARKUP = """<img src=x onerror="document.title = 'broken'">"""
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
NO_BROWSER = "no browser: install chromium, or run `playwright install chromium`"
REFUSED = "WebSocket .* failed: Error in connection establishment"
NONSENSE: list[str | bytes] = [
    "",
    "{",
    "null",
    "[]",
    "7",
    '"GROUP_MESSAGE"',
    "{}",
    '{"type": "GROUP_MESSAGE"}',
    '{"type": "GROUP_MESSAGE", "value": null}',
    '{"type": "GROUP_MESSAGE", "value": {"groupId": null, "groupMessage": "no"}}',
    '{"type": "GROUP_MESSAGE", "value": {"groupId": "B", "groupMessage": "no"}}',
    '{"type": "GROUP_CREATED", "value": {"groupId": 7, "groupName": "no"}}',
    '{"type": "GROUP_JOINED", "value": {"groupId": "A", "groupName": {}}}',
    '{"type": "GROUP_LEFT", "value": "A"}',
    '{"type": "GROUP_UNAVAILABLE", "value": "B"}',
    '{"type": "GROUP_UNAVAILABLE"}',
    '{"type": "__proto__", "value": {"__proto__": null}}',
    "[" * 100_000,
    "x" * 1_000_000,
    b"",
    b'{"type": "GROUP_JOINED"}',
]


POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Start a browser for all the tests; each page has a session of its own in it."""
    async with async_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = next(filter(None, map(shutil.which, [*BROWSERS, own])), None)
        if path is None:
            pytest.fail(NO_BROWSER, pytrace=False)
        is_root = os.name == "posix" and os.geteuid() == 0
        browser = await playwright.chromium.launch(
            executable_path=path,
            chromium_sandbox=not is_root,  # where root cannot have one
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def aiohttp_server() -> AsyncIterator[AiohttpServer]:
    """Start servers, as pytest-aiohttp does, and stop them in the browser's loop."""
    servers: list[TestServer] = []

    async def start(
        app: web.Application, *, port: int | None = None, **options: Any
    ) -> TestServer:
        servers.append(TestServer(app, host="127.0.0.1", port=port))
        await servers[-1].start_server(**options)
        return servers[-1]

    yield start
    for server in servers:
        await server.close()


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server, which stops after the test."""
    return await start_server(aiohttp_server, PORT)


@asynccontextmanager
async def open_page(
    browser: Browser, url: str = URL, allowed: str = "(?!)", **options: Any
) -> AsyncIterator[Page]:
    """Open a page, as a visitor of its own, and yield it.

    `options` are those of Playwright's `new_context`.
    Raises `AssertionError` after the `async with` block when the page has met an error
    that the regular expression `allowed` does not match.
    """
    errors: list[str] = []

    def note_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    def note_error(error: Error) -> None:
        errors.append(str(error))

    context = await browser.new_context(**options)
    context.set_default_timeout(TIMEOUT * 1000)
    page = await context.new_page()
    page.on("console", note_message)
    page.on("pageerror", note_error)
    try:
        await page.goto(url)
        yield page
        await page.evaluate("0")  # a fence: errors of before have been noted then
    finally:
        await context.close()
    assert [error for error in errors if not re.search(allowed, error)] == []


def messages(page: Page) -> Locator:
    """Return what the page shows of the group's messages."""
    return page.get_by_role("list").get_by_role("listitem")


async def create_group(page: Page, name: str = "A") -> str:
    """Create a group, and return its id."""
    await page.get_by_label("Group name").fill(name)
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    return page.url.partition("#")[2]


async def join_group(page: Page, group_id: str, name: str = "A") -> None:
    """Join a group by its id."""
    await page.get_by_label("Group id").fill(group_id)
    await page.get_by_role("button", name="Join").click()
    await expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


async def say(page: Page, text: str) -> None:
    """Send a message, and wait until the page shows it."""
    count = await messages(page).count()
    await page.get_by_label("Message").fill(text)
    await page.get_by_role("button", name="Send").click()
    await expect(messages(page).nth(count)).to_have_text(text)


def status(page: Page) -> Locator:
    """Return the status line."""
    return page.get_by_role("status")


def connections(server: TestServer) -> list[web.RequestHandler]:
    """Return the server's connections, of the browser and of others."""
    assert server.runner
    assert server.runner.server
    return server.runner.server.connections


async def test_two_pages_talk_and_a_third_hears_nothing(browser: Browser) -> None:
    frames: list[str | bytes] = []  # a page may have received what it does not show

    def note_frames(socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: frames.append(frame))  # noqa: PLW0108

    async with (
        open_page(browser) as page1,
        open_page(browser) as page2,
        open_page(browser, "about:blank") as page3,
    ):
        page3.on("websocket", note_frames)
        await page3.goto(URL)
        group_id = await create_group(page1)
        await join_group(page2, group_id)
        await create_group(page3)

        await say(page1, "HI")
        await say(page2, "HI")
        await say(page2, "last")
        await say(page3, "a fence")

        await expect(messages(page1)).to_have_text(["HI", "HI", "last"])
        await expect(messages(page2)).to_have_text(["HI", "HI", "last"])
        await expect(messages(page3)).to_have_text(["a fence"])

    types = [json.loads(frame)["type"] for frame in frames]
    assert types == ["GROUP_CREATED", "GROUP_MESSAGE"]


async def test_page_and_client_in_one_group(browser: Browser) -> None:
    async with create_socket_client(PORT) as client, open_page(browser) as page:
        group_id = await create_group(page)
        await client.send_json({"type": "JOIN_GROUP", "value": group_id})
        await client.wait_for_message_count(1)

        await say(page, "from the page")
        await client.send_json({"type": "ECHO_TO_ALL", "value": "not for a group"})
        value = {"groupId": group_id, "groupMessage": "from the client"}
        await client.send_json({"type": "MESSAGE_GROUP", "value": value})

        await expect(messages(page)).to_have_text(["from the page", "from the client"])

    assert client.messages == [
        {"type": "GROUP_JOINED", "value": {"groupId": group_id, "groupName": "A"}},
        {"type": "GROUP_MESSAGE", "value": value | {"groupMessage": "from the page"}},
        {"type": "ECHO", "value": "not for a group"},
        {"type": "GROUP_MESSAGE", "value": value},
    ]


async def test_markup_is_shown_as_text(browser: Browser) -> None:
    async with open_page(browser) as page1, open_page(browser) as page2:
        await join_group(page2, await create_group(page1, MARKUP), MARKUP)

        await say(page1, MARKUP)
        await say(page1, "last")

        for page in page1, page2:
            await expect(messages(page)).to_have_text([MARKUP, "last"])
            await expect(page.locator("img")).to_have_count(0)
            await expect(page).to_have_title(MARKUP)


async def test_invitation_link(browser: Browser) -> None:
    async with open_page(browser) as page1:
        await page1.context.grant_permissions(["clipboard-read", "clipboard-write"])
        group_id = await create_group(page1)
        await page1.get_by_role("button", name="Copy link").click()
        await expect(page1.get_by_text("The link is copied")).to_be_visible()
        link = await page1.evaluate("navigator.clipboard.readText()")
        assert link == f"{URL}/#{group_id}"

        async with open_page(browser, link) as page2, open_page(browser) as page3:
            await join_group(page3, f" {link} ")  # a link will do in place of the id
            await say(page2, "HI")
            await expect(messages(page1)).to_have_text(["HI"])
            await expect(messages(page3)).to_have_text(["HI"])


async def test_unknown_group(browser: Browser) -> None:
    async with open_page(browser, f"{URL}/#unknown") as page:
        await expect(page.get_by_text("There is no such group")).to_be_visible()
        await expect(page).to_have_url(f"{URL}/")

        await create_group(page)
        await say(page, "HI")
        await expect(page.get_by_text("There is no such group")).to_be_hidden()


async def test_leave_and_come_back(browser: Browser) -> None:
    async with open_page(browser) as page1, open_page(browser) as page2:
        group_id = await create_group(page1)
        await join_group(page2, group_id)
        await say(page2, "before")

        await page2.get_by_role("button", name="Leave").click()
        await expect(page2).to_have_url(f"{URL}/")
        await create_group(page2, "B")
        await say(page1, "without 2")
        await say(page2, "a fence")
        await expect(messages(page2)).to_have_text(["a fence"])

        await page2.goto(f"{URL}/#{group_id}")
        await expect(page2.get_by_role("heading", name="A", exact=True)).to_be_visible()
        await say(page1, "back")
        await expect(messages(page2)).to_have_text(["back"])
        await expect(messages(page1)).to_have_text(["before", "without 2", "back"])


async def test_group_ends_when_its_page_leaves(browser: Browser) -> None:
    async with open_page(browser) as page, create_socket_client(PORT) as client:
        group_id = await create_group(page)
        await page.get_by_role("button", name="Leave").click()
        await create_group(page, "a fence")
        await client.send_json({"type": "JOIN_GROUP", "value": group_id})

    assert client.messages == [{"type": "GROUP_UNAVAILABLE", "value": group_id}]


async def open_without_time(page: Page) -> None:
    """Open the page, with a clock that goes on by `page.clock.run_for()` only."""
    await page.clock.install(time=0)
    await page.goto(URL)
    await page.clock.pause_at(60_000)


async def test_page_rejoins_its_group(browser: Browser, server: TestServer) -> None:
    async with create_socket_client(PORT) as client:
        spared = connections(server)
        async with open_page(browser, "about:blank") as page:
            await open_without_time(page)
            group_id = await create_group(page)
            await client.send_json({"type": "JOIN_GROUP", "value": group_id})
            await client.wait_for_message_count(1)
            await say(page, "before")

            for connection in connections(server):
                if connection not in spared:
                    connection.force_close()
            await expect(status(page)).to_have_text("disconnected")
            value = {"groupId": group_id, "groupMessage": "in the meantime"}
            await client.send_json({"type": "MESSAGE_GROUP", "value": value})
            await client.wait_for_message({"type": "GROUP_MESSAGE", "value": value})
            await page.clock.run_for(500)
            await expect(status(page)).to_have_text("connected")
            await expect(page.get_by_text("Back again.")).to_be_visible()
            await say(page, "after")

            await expect(messages(page)).to_have_text(["before", "after"])

    texts = [message["value"].get("groupMessage") for message in client.messages]
    assert texts == [None, "before", "in the meantime", "after"]


async def test_server_stops_and_comes_back(
    browser: Browser, server: TestServer, aiohttp_server: AiohttpServer
) -> None:
    async with open_page(browser, allowed=REFUSED) as page:
        await create_group(page)
        await say(page, "before")

        await server.close()
        await expect(status(page)).to_have_text("disconnected")
        await page.get_by_label("Message").fill("too early")
        await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_text("Not sent")).to_be_visible()
        await expect(page.get_by_label("Message")).to_have_value("too early")
        await start_server(aiohttp_server, PORT)

        # The pauses have grown meanwhile: at worst to twice as long as this has taken.
        await expect(status(page)).to_have_text("connected", timeout=30_000)
        await expect(page.get_by_text("This group is gone")).to_be_visible()
        await expect(page).to_have_url(f"{URL}/")
        await expect(page.get_by_label("Group name")).to_be_focused()
        await expect(messages(page)).to_have_text(["before"])
        await create_group(page)
        await say(page, "after")
        await expect(messages(page)).to_have_text(["after"])


async def test_connection_is_lost_with_messages(browser: Browser) -> None:
    sockets: list[WebSocketRoute] = []
    requests: list[str] = []

    def lose_messages(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(request: str | bytes) -> None:
            message = json.loads(request)
            requests.append(message["type"])
            if "lost" not in str(message["value"]):
                server.send(request)

        socket.on_message(pass_on)
        sockets.append(socket)

    async with (
        create_socket_client(PORT) as client,
        open_page(browser, "about:blank") as page,
    ):
        await page.route_web_socket("**/ws", lose_messages)
        await open_without_time(page)
        group_id = await create_group(page)
        await client.send_json({"type": "JOIN_GROUP", "value": group_id})
        await client.wait_for_message_count(1)
        for number in 1, 2:
            text = f"lost <b>{number}</b>"
            await say(page, "heard")
            await page.get_by_label("Message").fill(text)
            await page.get_by_role("button", name="Send").click()
            await page.get_by_label("Message").fill("a draft")
            await sockets[-1].close()
            await expect(status(page)).to_have_text("disconnected")
            await page.clock.run_for(1_000)
            back = "Back again. What was said in the meantime is missing here."
            notice = page.get_by_text("Back again.")
            await expect(notice).to_have_text(f"{back} Perhaps not delivered: {text}")
            await expect(page.get_by_label("Message")).to_have_value("a draft")

        await page.get_by_role("button", name="Leave").click()
        await expect(page.get_by_role("button", name="Leave")).to_be_hidden()
        await expect(page).to_have_title("Groups")
        requests.clear()
        await sockets[-1].close()
        await expect(status(page)).to_have_text("disconnected")
        await page.clock.run_for(2_000)
        await expect(status(page)).to_have_text("connected")
        await create_group(page)
        assert requests == ["CREATE_GROUP"]  # it does not come back to what it has left


async def test_message_before_the_page_is_in_its_group_again(browser: Browser) -> None:
    sockets: list[WebSocketRoute] = []
    held: asyncio.Queue[str | bytes] = asyncio.Queue()

    def hold(request: str | bytes) -> None:
        held.put_nowait(request)

    def hold_requests(socket: WebSocketRoute) -> None:
        sockets.extend([socket, socket.connect_to_server()])
        if len(sockets) > 2:
            socket.on_message(hold)

    async with (
        create_socket_client(PORT) as client,
        open_page(browser, "about:blank") as page,
    ):
        await page.route_web_socket("**/ws", hold_requests)
        await open_without_time(page)
        group_id = await create_group(page)
        await client.send_json({"type": "JOIN_GROUP", "value": group_id})
        await client.wait_for_message_count(1)
        await sockets[0].close()
        await expect(status(page)).to_have_text("disconnected")
        await page.clock.run_for(500)
        await expect(status(page)).to_have_text("connected")

        await page.get_by_label("Message").fill("early")
        await page.get_by_role("button", name="Send").click()
        for request in "JOIN_GROUP", "MESSAGE_GROUP":
            sockets[-1].send(await bounded(held.get(), request))
        await expect(messages(page)).to_have_text(["early"])
        await expect(page.get_by_text("Back again.")).to_be_visible()
        await expect(page.get_by_text("Perhaps not delivered")).to_be_hidden()


async def test_server_refuses(browser: Browser) -> None:
    def refuse_some(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(request: str | bytes) -> None:
            match json.loads(request)["value"]:
                case "one too many" as group:
                    pass
                case {"groupId": group, "groupMessage": "lost"}:
                    pass  # so it is when a broker is away
                case _:
                    server.send(request)
                    return
            socket.send(json.dumps({"type": "GROUP_UNAVAILABLE", "value": group}))

        socket.on_message(pass_on)

    async with open_page(browser, "about:blank") as page:
        await page.route_web_socket("**/ws", refuse_some)
        await page.goto(URL)
        await page.get_by_label("Group name").fill("one too many")
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_text("The server does not make")).to_be_visible()
        await create_group(page)
        await say(page, "before")

        await page.get_by_label("Message").fill("lost")
        await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_text("out of reach")).to_contain_text(": lost")
        await say(page, "after")

        await expect(messages(page)).to_have_text(["before", "after"])


async def test_wish_waits_for_the_connection(
    browser: Browser, server: TestServer, aiohttp_server: AiohttpServer
) -> None:
    async with (
        open_page(browser, allowed=REFUSED) as page1,
        open_page(browser, allowed=REFUSED) as page2,
    ):
        await server.close()
        for page in page1, page2:
            await expect(status(page)).to_have_text("disconnected")
        await page1.get_by_label("Group name").fill("A")
        await page1.get_by_role("button", name="Create").click()
        await expect(page1.get_by_text("This has to wait")).to_be_visible()
        await page2.goto(f"{URL}/#unknown")
        await expect(page2.get_by_text("This has to wait")).to_be_visible()
        await page2.go_back()
        await expect(page2.get_by_text("This has to wait")).to_be_hidden()
        await start_server(aiohttp_server, PORT)

        await expect(status(page2)).to_have_text("connected", timeout=30_000)
        await create_group(page2, "B")
        await expect(page2.get_by_text("no such group")).to_be_hidden()
        title = page1.get_by_role("heading", name="A", exact=True)
        await expect(title).to_be_visible(timeout=30_000)


async def test_wish_waits_for_an_attempt(browser: Browser) -> None:
    attempts: list[WebSocketRoute] = []

    async def hold_attempt(socket: WebSocketRoute) -> None:
        attempts.append(socket)
        if len(attempts) > 1:
            await asyncio.Event().wait()

    async with open_page(browser, "about:blank") as page:
        await page.route_web_socket("**/ws", hold_attempt)
        await open_without_time(page)
        await expect(status(page)).to_have_text("connected")
        await attempts[0].close()
        await expect(status(page)).to_have_text("disconnected")
        await page.clock.run_for(500)
        await page.get_by_label("Group name").fill("A")
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_text("This has to wait")).to_be_visible()


async def test_history(browser: Browser) -> None:
    async with open_page(browser) as page, create_socket_client(PORT) as client:
        await create_group(page)
        await page.go_back()
        await expect(page.get_by_role("button", name="Create")).to_be_visible()
        await page.go_forward()
        await expect(page.get_by_text("There is no such group")).to_be_visible()

        group_id = await create_group(page, "A")
        await client.send_json({"type": "JOIN_GROUP", "value": group_id})
        await client.wait_for_message_count(1)
        await page.get_by_role("button", name="Leave").click()
        left_id = await create_group(page, "B")
        await page.goto(f"{URL}/#{group_id}")
        await expect(page.get_by_role("heading", name="A", exact=True)).to_be_visible()
        await client.send_json({"type": "JOIN_GROUP", "value": left_id})
        await client.wait_for_message({"type": "GROUP_UNAVAILABLE", "value": left_id})


async def test_double_clicks(browser: Browser) -> None:
    requests: list[Any] = []
    # By `dblclick()` the second can come too late, to a button that is gone.
    twice = "button => { button.click(); button.click(); }"

    def note_requests(socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: requests.append(json.loads(frame)))

    async with open_page(browser, "about:blank") as page, open_page(browser) as page2:
        page.on("websocket", note_requests)
        await page.goto(URL)
        await page.get_by_label("Group name").fill("A")
        await page.get_by_role("button", name="Create").evaluate(twice)
        await expect(page.get_by_role("heading", name="A", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Send").click()  # what is empty
        await say(page, "a fence")

        await page2.get_by_label("Group id").fill(page.url)
        await page2.get_by_role("button", name="Join").evaluate(twice)
        await expect(page2.get_by_role("heading", name="A", exact=True)).to_be_visible()
        await say(page, "another")
        await expect(messages(page2)).to_have_text(["another"])
        await expect(page2.get_by_text("Back again.")).to_be_hidden()

    types = sorted(request["type"] for request in requests)
    assert types == ["CREATE_GROUP"] * 2 + ["LEAVE_GROUP"] + ["MESSAGE_GROUP"] * 2
    values = {request["type"]: request["value"] for request in requests}
    assert values["LEAVE_GROUP"] != values["MESSAGE_GROUP"]["groupId"]


async def test_long_conversation(browser: Browser) -> None:
    async with open_page(browser) as page, create_socket_client(PORT) as client:
        group_id = await create_group(page)
        field = page.get_by_label("Message")
        await expect(field).to_have_attribute("maxlength", "4000")
        await client.send_json({"type": "JOIN_GROUP", "value": group_id})
        for number in range(1, 1002):
            value = {"groupId": group_id, "groupMessage": f"{number}"}
            await client.send_json({"type": "MESSAGE_GROUP", "value": value})
        await expect(messages(page).last).to_have_text("1001", timeout=30_000)

        await expect(messages(page)).to_have_count(1000)
        await expect(messages(page).first).to_have_text("2")


async def test_pauses_between_attempts_grow(browser: Browser) -> None:
    attempts: list[WebSocketRoute] = []
    openings = asyncio.Semaphore(0)

    async def hold_attempt(socket: WebSocketRoute) -> None:
        attempts.append(socket)
        await openings.acquire()  # open while time goes on, it would be a good one

    async with open_page(browser, "about:blank") as page:
        await page.route_web_socket("**/ws", hold_attempt)
        await open_without_time(page)
        pause, early = 500, 0  # milliseconds, attempts
        for number in range(1, 11):
            openings.release()
            await expect(status(page)).to_have_text("connected")
            assert len(attempts) == number
            await attempts[-1].close()
            await expect(status(page)).to_have_text("disconnected")
            await page.clock.run_for(pause // 2 - 1)
            assert len(attempts) == number
            await page.clock.run_for(pause // 2)
            early += len(attempts) - number
            await page.clock.run_for(1)
            pause = min(2 * pause, 30_000)

    assert early > 0  # jitter: who waits for the whole pause comes with all others


async def test_attempt_after_a_good_connection(browser: Browser) -> None:
    attempts: list[WebSocketRoute] = []

    def note_attempt(socket: WebSocketRoute) -> None:
        attempts.append(socket)

    async with open_page(browser, "about:blank") as page:
        await page.route_web_socket("**/ws", note_attempt)
        await open_without_time(page)
        for number in range(1, 5):  # each time it waits for half a second at most
            await expect(status(page)).to_have_text("connected")
            assert len(attempts) == number
            await page.clock.run_for(11_000)
            await attempts[-1].close()
            await expect(status(page)).to_have_text("disconnected")
            await page.clock.run_for(500)

        await expect(status(page)).to_have_text("connected")
        await attempts[-1].close()
        await expect(status(page)).to_have_text("disconnected")
        await page.evaluate("dispatchEvent(new Event('online'))")  # and not at all
        await expect(status(page)).to_have_text("connected")
        await page.clock.run_for(60_000)
        assert len(attempts) == 6


async def test_nonsense_from_the_server(browser: Browser) -> None:
    def talk_nonsense(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(request: str | bytes) -> None:
            for nonsense in NONSENSE:
                socket.send(nonsense)
            server.send(request)

        socket.on_message(pass_on)

    async with open_page(browser, "about:blank") as page:
        await page.route_web_socket("**/ws", talk_nonsense)
        await page.goto(URL)
        for name in "A", "C":
            await create_group(page, name)
            await say(page, "HI")
            await say(page, "HO")
            await expect(messages(page)).to_have_text(["HI", "HO"])
            await page.get_by_role("button", name="Leave").click()

        await expect(status(page)).to_have_text("connected")


CONNECT = """url => new Promise(resolve => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("error");
})"""


async def test_page_of_another_origin_is_refused(
    browser: Browser, aiohttp_server: AiohttpServer
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        page = "<link rel=icon href=data:>A page that tries"
        return web.Response(text=page, content_type="text/html")

    elsewhere = web.Application()
    elsewhere.router.add_get("/", answer)
    other_server = await aiohttp_server(elsewhere)
    other_url = str(other_server.make_url("/"))

    async with (
        open_page(browser) as page,
        open_page(browser, other_url, allowed="Unexpected response code: 403") as other,
    ):
        assert await page.evaluate(CONNECT, f"ws://127.0.0.1:{PORT}/ws") == "open"
        assert await other.evaluate(CONNECT, f"ws://127.0.0.1:{PORT}/ws") == "error"


async def connect(url: str, origin: str | None, **headers: str) -> int:
    """Return the status with which the server at `url` answers a handshake."""
    timeout = ClientTimeout(total=TIMEOUT)
    async with ClientSession(timeout=timeout) as session:
        try:
            async with session.ws_connect(url, origin=origin, headers=headers):
                return 101
        except WSServerHandshakeError as error:
            return error.status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("http://127.0.0.1:{}", 101),
        ("", 403),
        ("null", 403),
        ("https://127.0.0.1:{}", 403),
        ("http://127.0.0.1:1", 403),
        ("http://127.0.0.1", 403),
        ("http://localhost:{}", 403),
        ("http://127.0.0.1:{}.example", 403),
        ("http://127.0.0.1:{}0", 403),
        ("http://example/http://127.0.0.1:{}", 403),
        ("https://chat.example", 403),
    ],
)
async def test_origin(origin: str | None, status: int) -> None:
    # Put in here, for the test has to have the same name on every worker's port.
    own_origin = origin and origin.format(PORT)
    assert await connect(f"{URL}/ws", own_origin) == status


async def test_origin_behind_proxy(aiohttp_server: AiohttpServer) -> None:
    app = web.Application()
    create_websocket_server(
        app, origins=["https://chat.example", "https://chat.example:444"]
    )
    server = await aiohttp_server(app, shutdown_timeout=0.1)
    url = str(server.make_url("/ws"))

    assert await connect(url, "https://chat.example", Host="chat.example") == 101
    assert await connect(url, "https://chat.example:444") == 101
    assert await connect(url, "http://chat.example", Host="chat.example:80") == 101
    assert await connect(url, "http://chat.example") == 403
    assert await connect(url, "https://chat.example:445") == 403
    assert await connect(url, "https://chat.example:445", Host=":80") == 400


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
    async with open_page(browser, allowed="Content Security Policy") as page:
        await page.evaluate(
            """markup => new Promise(resolve => {
                addEventListener("securitypolicyviolation", resolve);
                document.body.insertAdjacentHTML("beforeend", markup);
            })""",
            MARKUP,
        )
        await expect(page).to_have_title("Groups")


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")],
)
async def test_files(path: str, content_type: str) -> None:
    async with ClientSession(timeout=ClientTimeout(total=TIMEOUT)) as session:
        async with session.get(f"{URL}{path}") as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == f"{content_type}; charset=utf-8"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-cache"
            assert response.headers["Referrer-Policy"] == "no-referrer"
            policy = response.headers["Content-Security-Policy"]
            assert set(policy.split("; ")) == POLICY
            unchanged = {"If-None-Match": response.headers["ETag"]}
        async with session.get(f"{URL}{path}", headers=unchanged) as response:
            assert response.status == 304


async def test_origins_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORIGINS", "https://a.example https://b.example")
    with start_process("") as process:
        url = f"http://127.0.0.1:{process.port}/ws"
        assert await connect(url, "https://a.example") == 101
        assert await connect(url, "https://b.example") == 101
        assert await connect(url, "https://c.example") == 403


BRIGHTNESS = """(element, name) => {
    const [r, g, b] = getComputedStyle(element)[name].match(/[0-9]+/g).map(value => {
        const part = value / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_contrast(browser: Browser, scheme: str) -> None:
    async with open_page(browser, color_scheme=scheme) as page:
        text = await page.locator("body").evaluate(BRIGHTNESS, "color")
        ground = await page.locator("main").evaluate(BRIGHTNESS, "backgroundColor")

    assert (text > ground) == (scheme == "dark")
    darker, brighter = sorted([text, ground])
    assert (brighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG 2.2, 1.4.3


async def test_notice_is_read_out(browser: Browser) -> None:
    async with open_page(browser, f"{URL}/#unknown") as page:
        notice = page.get_by_text("There is no such group")
        await expect(notice).to_have_attribute("aria-live", "polite")


async def test_keyboard(browser: Browser) -> None:
    async with open_page(browser) as page:
        press, write = page.keyboard.press, page.keyboard.insert_text
        await press("Tab")
        await expect(page.get_by_label("Group name")).to_be_focused()
        await write("A")
        await press("Enter")
        for text in "HI", "HO":
            await expect(page.get_by_label("Message")).to_be_focused()
            await write(text)
            await press("Enter")
            await expect(page.get_by_label("Message")).to_have_value("")
        await expect(messages(page)).to_have_text(["HI", "HO"])

        await press("Shift+Tab")  # to the conversation, which may have to be scrolled
        await press("Shift+Tab")
        await expect(page.get_by_role("button", name="Leave")).to_be_focused()
        await press("Enter")
        await expect(page.get_by_label("Group name")).to_be_focused()


async def test_narrow_screen(browser: Browser) -> None:
    async with open_page(
        browser, is_mobile=True, viewport={"width": 320, "height": 480}
    ) as page:
        size = "[innerWidth, document.documentElement.scrollWidth]"
        assert await page.evaluate(size) == [320, 320]
        await create_group(page, "x" * 100)
        for _ in range(10):
            await say(page, "y" * 1000)

        await expect(messages(page).last).to_be_in_viewport()
        await expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
        assert await page.evaluate(size) == [320, 320]
        log = page.get_by_role("log")
        assert await log.evaluate("log => log.scrollWidth === log.clientWidth")
