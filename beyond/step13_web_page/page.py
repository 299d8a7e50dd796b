"""The page's files, and the check of who may connect."""

from collections.abc import Collection
from pathlib import Path

from aiohttp import web

FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
HEADERS = {
    # The page may only load its own files and talk to its own server.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'"
    "; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    # A page that has opened this one cannot navigate it.
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # ask each time; the answer is usually 304
}


def add_routes(app: web.Application) -> None:
    """Serve the page at `/`."""
    for path in FILES:
        app.router.add_get(path, serve_file)


async def serve_file(request: web.Request) -> web.FileResponse:
    """Answer with a file of the page from this folder."""
    name, content_type = FILES[request.path]
    headers = HEADERS | {"Content-Type": f"{content_type}; charset=utf-8"}
    return web.FileResponse(Path(__file__).with_name(name), headers=headers)


def check_handshake(request: web.Request, origins: Collection[str]) -> None:
    """Refuse malformed handshakes (400) and those from other origins (403)."""
    if not request.headers.get("Sec-WebSocket-Key", "").isascii():
        raise web.HTTPBadRequest(text="Sec-WebSocket-Key must be ASCII.")
    check_origin(request, origins)


def check_origin(request: web.Request, origins: Collection[str]) -> None:
    """Raise 403 unless the page comes from this server, or from one of `origins`.

    Clients that are not browsers send no `Origin`. They may connect: they could send
    any origin they like.
    """
    try:
        own_origin = str(request.url.origin())
    except ValueError as error:  # such as that of `Host: :80`
        raise web.HTTPBadRequest(text="The Host header names no host.") from error
    if request.headers.get("Origin") not in (None, own_origin, *origins):
        raise web.HTTPForbidden(text="Pages of this origin may not connect.")
