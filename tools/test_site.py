"""Check the site and the book (EPUB): as files, and the site in a browser, too."""

import os
import posixpath
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import fromstring as parse_xml
from zipfile import ZipFile

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tools.readme import list_texts

TEXTS = [text for text in list_texts() if text.parts[0] != ".github"]
SITE = Path("docs/_build/site")
BOOK = Path("docs/_build/epub/testing-websocket-servers.epub")
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
SAMPLE = ["README", "step3_client_helper/README"]


class Links(HTMLParser):
    """What a page links to, what it takes from elsewhere, and the names in it."""

    def __init__(self, page: Path) -> None:
        """Read a page."""
        super().__init__()
        self.links: list[str] = []
        self.parts: list[str] = []
        self.names = {"", "top"}
        self.next = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(
        self, tag: str, attributes: list[tuple[str, str | None]]
    ) -> None:
        """Note what a tag names."""
        values = {name: value or "" for name, value in attributes}
        self.names |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
            if values.get("class") == "next-page":
                self.next = values["href"]
        elif tag == "link":
            self.parts.append(values["href"])
            if values["rel"] == "next":
                self.next = values["href"]
        elif tag != "a":
            self.parts += [values[name] for name in ("src", "data") if values.get(name)]
            self.parts += values.get("srcset", "").split()


@pytest.fixture(scope="module")
def site() -> Path:
    """Make the site and the book, without a warning, and return the site's folder."""
    make = ["make", "--no-print-directory", "site", "epub"]
    done = subprocess.run(
        make, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    return SITE


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Links]:
    """Return the pages of the site, by their addresses in it."""
    files = sorted(site.rglob("*.html"))
    return {file.relative_to(site).as_posix(): Links(file) for file in files}


def resolve(page: str, link: str) -> str:
    """Return the address that a page's link leads to."""
    path = unquote(link)
    folder = posixpath.dirname(page)
    return posixpath.normpath(posixpath.join(folder, path)) if path else page


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    """Serve the site on a free port."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    handler = partial(Handler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser for all the tests."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = next(filter(None, map(shutil.which, [*BROWSERS, own])), None)
        if path is None:
            pytest.fail("no browser: install chromium, or google-chrome", pytrace=False)
        is_root = os.name == "posix" and os.geteuid() == 0
        browser = playwright.chromium.launch(
            executable_path=path, chromium_sandbox=not is_root
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Open an empty page; a test's parameter may say how dark it is."""
    with browser.new_context(
        color_scheme=getattr(request, "param", "light"),
        viewport=DESK,  # type: ignore[arg-type]
        permissions=["clipboard-read", "clipboard-write"],
    ) as context:
        context.set_default_timeout(5000)
        yield context.new_page()


def test_every_text_is_a_page(pages: dict[str, Links]) -> None:
    assert {f"{text.with_suffix('')}.html" for text in TEXTS} <= {*pages}


def test_links_resolve(pages: dict[str, Links], site: Path) -> None:
    broken = []
    for page, found in pages.items():
        for link in [*found.links, *found.parts]:
            parts = urlsplit(link)
            if not parts.scheme:
                target = resolve(page, parts.path)
                there = (site / target).is_file()
                name = unquote(parts.fragment)
                if not there or (target in pages and name not in pages[target].names):
                    broken.append(f"{page}: {link}")
    assert broken == []


def test_nothing_comes_from_another_host(pages: dict[str, Links], site: Path) -> None:
    foreign = [
        f"{page}: {part}"
        for page, found in pages.items()
        for part in found.parts
        if urlsplit(part).netloc or urlsplit(part).scheme not in ("", "data")
    ]
    for style in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        text = style.read_text(encoding="utf-8")
        foreign += re.findall(r"url\(['\"]?(?:https?:)?//.*?\)|@import.*", text)
    assert foreign == []


def test_next_leads_through_all_pages(pages: dict[str, Links]) -> None:
    page, walk = "README.html", []
    while page not in walk:
        walk.append(page)
        if following := pages[page].next:
            page = resolve(page, following)

    others = {name for name in pages if name.startswith("source/")}
    assert {*walk} == {*pages} - others - {"index.html", "search.html"}
    steps = [int(n[1]) for name in walk if (n := re.search(r"step(\d+)_", name))]
    assert steps == [*range(1, len(steps) + 1)]


def test_pages_on_a_phone(pages: dict[str, Links], page: Page, url: str) -> None:
    """Nothing is cut at 360 pixels, nothing fails, nothing comes from elsewhere."""
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("requestfailed", lambda request: errors.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    too_wide = []
    for name in {*pages} - {"index.html"}:  # which leads on at once
        page.goto(url + name)
        page.locator("details").evaluate_all("all => all.forEach(d => d.open = true)")
        width = page.evaluate("document.documentElement.scrollWidth")
        inside = page.locator("article").evaluate_all(CUT)
        if width > PHONE["width"] or inside:
            too_wide.append(f"{name}: {width} pixels, {inside}")
    assert too_wide == []
    assert errors == []
    assert [each for each in requests if not each.startswith((url, "data:"))] == []


# What reaches over the right edge, other than in something that scrolls.
CUT = """articles => articles.flatMap(article => [...article.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .filter(e => {
        for (let up = e; up !== article; up = up.parentElement)
            if (/auto|scroll/.test(getComputedStyle(up).overflowX)) return false;
        return true;
    }).map(e => e.outerHTML.slice(0, 80)))"""


def test_front_page(page: Page, url: str) -> None:
    page.goto(url)
    expect(page).to_have_url(f"{url}README.html")
    expect(page.get_by_role("heading", level=1)).to_contain_text("WebSocket servers")


def test_search_finds_close_after(page: Page, url: str) -> None:
    page.goto(f"{url}README.html")
    page.get_by_placeholder("Search").fill("close_after")
    page.get_by_placeholder("Search").press("Enter")
    page.locator(".search a", has_text="Step 3").first.click()
    expect(page).to_have_url(re.compile("step3_client_helper"))
    expect(page.locator(".highlighted").first).to_be_visible()


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
@pytest.mark.parametrize("name", SAMPLE)
def test_contrast(page: Page, url: str, name: str) -> None:
    page.goto(f"{url}{name}.html")
    page.locator("details").evaluate_all("all => all.forEach(d => d.open = true)")
    page.evaluate("scrollTo(0, 0)")
    rules = {"runOnly": ["color-contrast", "image-alt", "link-name", "list"]}
    results = Axe().run(page, options=rules)
    assert results.violations_count == 0, results.generate_report()[:2000]


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_folded_diff_opens_in_colour(page: Page, url: str) -> None:
    page.goto(f"{url}step3_client_helper/README.html")
    diff = page.locator("details .highlight-diff")
    expect(diff).to_be_hidden()

    page.get_by_text("What step 3 changes").click()

    expect(diff).to_be_visible()
    colours = [
        diff.locator(kind).first.evaluate("e => getComputedStyle(e).color")
        for kind in (".gi", ".gd", "pre")
    ]
    assert len({*colours}) == 3


def test_button_copies_commands_without_the_prompt(page: Page, url: str) -> None:
    page.goto(f"{url}README.html")
    block = page.locator(".highlight-console").first
    block.hover()
    block.get_by_role("button").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert re.match(r"make \w+", copied), copied
    assert "$ " not in copied


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_pictures(page: Page, url: str, request: pytest.FixtureRequest) -> None:
    page.goto(f"{url}step3_client_helper/README.html")
    pictures = page.locator(".picture img")
    expect(pictures.first).to_be_visible()
    for picture in pictures.all():
        assert picture.evaluate("e => e.decode().then(() => e.width)") > 200
        assert (picture.get_attribute("alt") or "").startswith("Sequence: ")
    turned_over = pictures.first.evaluate("e => getComputedStyle(e).filter") != "none"
    assert turned_over == ("dark" in request.node.name)


def test_book(site: Path) -> None:
    """Each chapter is well-formed, and what it shows and links to is in the book."""
    with ZipFile(BOOK) as book:
        names = book.namelist()
        assert names[0] == "mimetype"
        chapters = [name for name in names if name.endswith(".xhtml")]
        trees = {name: parse_xml(book.read(name)) for name in chapters}  # noqa: S314
    assert {f"{text.with_suffix('')}.xhtml" for text in TEXTS} <= {*names}
    ids = {
        name: {element.get("id") for element in tree.iter()}
        for name, tree in trees.items()
    }
    pictures = 0
    for name, tree in trees.items():
        for element in tree.iter():
            tag = element.tag.rpartition("}")[2]
            pictures += tag == "img"
            link = element.get("src") or (tag == "a" and element.get("href"))
            parts = urlsplit(link or "")
            if link and not parts.scheme:
                target = resolve(name, parts.path)
                assert target in names, f"{name}: {link}"
                assert not parts.fragment or parts.fragment in ids[target], link
    texts = [text.read_text(encoding="utf-8") for text in TEXTS]
    assert pictures == sum(len(re.findall(r"^```mermaid|!\[", t, re.M)) for t in texts)
    contents = {link.get("href") for link in trees["nav.xhtml"].iter()}
    assert {*chapters} - {"nav.xhtml"} <= contents
