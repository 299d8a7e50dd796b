"""Settings of the site and of the book (EPUB): `make site` and `make epub` use them.

Both show the Markdown files of the repository as they are. There is no second text.
"""

import os
import re
from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import mermaidx  # type: ignore[import-untyped]
from docutils import nodes  # type: ignore[import-untyped]
from pygments.lexers import (  # type: ignore[import-untyped]
    find_lexer_class_for_filename,
)
from sphinx import addnodes
from sphinx.application import Sphinx

TOP = Path(__file__).parent.parent  # the source
PICTURES = TOP / "docs/_build/pictures"

# The order of the pages: under which page, under which title, which files. A file has
# the first place that names it. The build fails when a page has none.
ORDER = [
    ("README", "The steps", ["step*/README.md"]),
    ("README", "Beyond the article", ["beyond/README.md"]),
    ("beyond/README", None, ["beyond/step*/README.md"]),
    ("README", "Your turn", ["docs/own_server.md", "exercise/README.md"]),
    ("docs/own_server", None, ["docs/recipes/*.md"]),
    ("exercise/README", None, ["docs/wrong_servers.md"]),
    ("README", "Look it up", ["docs/proofs.md", "docs/*.md"]),
]

project = html_title = "Testing WebSocket servers with aiohttp and pytest"
author = epub_copyright = "the contributors"
version = release = f"{date.today()}"

root_doc = "README"
smartquotes = False  # the text as GitHub shows it
include_patterns = ["*.md", "**/*.md"]
exclude_patterns = [".*", "**/.*", "docs/_build"]
extensions = ["myst_parser", "sphinx_copybutton"]

# GitHub's Markdown. What MyST adds to it would show up raw there, so it is off.
myst_enable_extensions = ["alert", "gfm_autolink", "strikethrough", "tasklist"]
myst_disable_syntax = [
    "front_matter",
    "myst_block_break",
    "myst_line_comment",
    "myst_role",
    "myst_target",
]
myst_heading_anchors = 6  # as GitHub makes them, and links name them

html_theme = "furo"
pygments_style, pygments_dark_style = "a11y-light", "a11y-dark"
html_static_path = ["site/site.css"]
html_css_files = ["site.css"]
html_extra_path = ["site/index.html"]  # leads from the site's address to README.html
html_use_index = html_copy_source = html_show_copyright = False
html_theme_options = {"source_directory": ""}
if repository := os.environ.get("GITHUB_REPOSITORY"):  # in a workflow, a fork's too
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    html_theme_options["source_repository"] = f"{server}/{repository}/"
    html_theme_options["source_branch"] = "main"

copybutton_prompt_text = "$ "  # is not copied

epub_basename = "testing-websocket-servers"
epub_show_urls = "no"
epub_use_index = False
epub_tocscope = "includehidden"  # the pages of ORDER
suppress_warnings = ["epub.unknown_project_files", "myst.strikethrough"]

# Text wraps, so that a picture is legible on a phone.
MERMAID = {
    "flowchart": {"rankSpacing": 20, "nodeSpacing": 20, "padding": 8},
    "sequence": {
        "wrap": True,
        "wrapPadding": 4,
        "width": 120,
        "height": 40,
        "actorMargin": 40,
        "messageMargin": 28,
        "messageFontSize": 15,
        "diagramMarginX": 4,
        "diagramMarginY": 4,
        "mirrorActors": False,
    },
}


def find_pages(patterns: list[str]) -> list[str]:
    """Return the names of the pages that the patterns match, step 10 after step 9."""

    def numbers(path: Path) -> list[tuple[int, str]]:
        parts = re.findall(r"(\d*)(\D+)", path.as_posix())
        return [(int(digits or 0), text) for digits, text in parts]

    files = [path for name in patterns for path in sorted(TOP.glob(name), key=numbers)]
    return [path.relative_to(TOP).with_suffix("").as_posix() for path in files]


def add_pages(doctree: nodes.document, page: str) -> None:
    """Say which pages come under this one, in which order: Sphinx's `toctree`."""
    placed: set[str] = set()
    for place, caption, patterns in ORDER:
        names = [name for name in find_pages(patterns) if name not in placed]
        names = list(dict.fromkeys(names))
        placed.update(names)
        if place == page:
            section = next(doctree.findall(nodes.section))
            section += addnodes.toctree(
                caption=caption,
                entries=[(None, name) for name in names],
                glob=False,
                hidden=True,
                includefiles=names,
                includehidden=False,
                maxdepth=-1,
                numbered=0,
                parent=page,
                rawcaption=caption,
                rawentries=[],
                titlesonly=True,
            )


def add_pictures(doctree: nodes.document, suffix: str) -> None:
    """Put a picture in the place of each block of Mermaid."""
    for block in list(doctree.findall(nodes.literal_block)):
        if block.get("language") == "mermaid":
            text = block.astext()
            path, width = draw(text, suffix)
            image = nodes.image(alt=describe(text), width=f"{width}px")
            image["uri"] = f"/{path.relative_to(TOP).as_posix()}"
            classes = ["picture", "wide" if width > 500 else "narrow"]
            block.replace_self(nodes.container("", image, classes=classes))


def draw(text: str, suffix: str) -> tuple[Path, int]:
    """Make the picture, unless it is there, and return its file and width in pixels.

    mermaidx brings Mermaid along, and runs it without a browser or a network.
    """
    version_of_picture = f"{mermaidx.__version__}{MERMAID}{text}"
    path = PICTURES / sha256(version_of_picture.encode()).hexdigest()[:16]
    svg, png = path.with_suffix(".svg"), path.with_suffix(".png")
    if not png.exists():
        PICTURES.mkdir(parents=True, exist_ok=True)
        diagram = mermaidx.render(text, config=MERMAID)
        svg.write_text(diagram.svg(), encoding="utf-8")
        png.write_bytes(diagram.png(scale=2, background="#ffffff"))
    box = re.search(r'viewBox="\S+ \S+ (\S+) ', svg.read_text(encoding="utf-8"))
    assert box, "an SVG without a viewBox"
    return path.with_suffix(suffix), round(float(box[1]))


def describe(text: str) -> str:
    """Return what a screen reader says: the lines of the picture, without markup."""
    kind, *lines = re.sub(r"<[^>]*>", " ", text).splitlines()
    said = "; ".join(" ".join(line.split()) for line in lines)
    return f"{'Sequence' if kind == 'sequenceDiagram' else 'Flowchart'}: {said}"


def drop_comments(doctree: nodes.document) -> None:
    """Leave out cog's comments: one with `--` in it would make a book unreadable."""
    for raw in list(doctree.findall(nodes.raw)):
        if re.fullmatch(r"<!--.*-->\s*", raw.astext(), re.DOTALL):
            raw.parent.remove(raw)


def mend_links(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let links to folders lead to their chapters, and links to files to pages of them.

    These pages belong to the site, so they are there for a fork, and without a network.
    """
    files = {}
    for link in doctree.findall(addnodes.download_reference):
        files[link], _ = app.env.relfn2path(link["reftarget"], page)
    for link in doctree.findall(addnodes.pending_xref):
        if link["refdomain"] is None:
            name, path = app.env.relfn2path(f"{link['reftarget']}/README.md", page)
            if Path(path).exists():
                link["refdomain"] = "doc"
                link["reftarget"] = name.removesuffix(".md")
                link["reftargetid"] = None
        elif link["reftarget"] not in app.env.found_docs:
            files[link] = f"{link['reftarget']}.md"
    app.env.metadata[page]["sources"] = [*files.values()]
    for link, name in files.items():
        if app.builder.name == "epub":
            new = nodes.inline("", "", *link.children)
        else:
            uri = app.builder.get_relative_uri(page, name_source(name))
            new = nodes.reference("", "", *link.children, refuri=uri, internal=True)
        link.replace_self(new)


def name_source(path: str) -> str:
    """Return the name of the page of a file. GitHub Pages publishes no `.github/`."""
    return f"source/{path.removeprefix('.')}"


def show_sources(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Make the pages of code that links lead to."""
    names = {name for data in app.env.metadata.values() for name in data["sources"]}
    for name in names if app.builder.name != "epub" else ():
        lexer = find_lexer_class_for_filename(name)
        code = (TOP / name).read_text(encoding="utf-8")
        shown = app.builder.highlighter.highlight_block(  # type: ignore[attr-defined]
            code, lexer.aliases[0] if lexer else "text", force=True
        )
        body = f"<h1>{name.replace('/', '/<wbr>')}</h1>{shown}"
        yield name_source(name), {"title": name, "body": body}, "page.html"


def read(app: Sphinx, doctree: nodes.document) -> None:
    """Deal with a page that has been read."""
    page = app.env.current_document.docname
    drop_comments(doctree)
    add_pages(doctree, page)
    # Not every reader of books shows what Mermaid puts in an SVG.
    add_pictures(doctree, ".png" if app.builder.name == "epub" else ".svg")
    mend_links(app, doctree, page)


def setup(app: Sphinx) -> None:
    """Connect the above to Sphinx."""
    app.connect("doctree-read", read, priority=400)  # before Sphinx collects pictures
    app.connect("html-collect-pages", show_sources)
