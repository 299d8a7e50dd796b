"""The page's files, and the check of who may connect."""

from collections.abc import Collection
from pathlib import Path

from aiohttp import web

FOLDER = Path(__file__).with_name("page")
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
FILES = {
    f"/{path.relative_to(FOLDER).as_posix()}": path for path in FOLDER.rglob("*.*")
}
FILES["/"] = FILES.pop("/index.html")
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
    """Answer with a file of the page."""
    path = FILES[request.path]
    headers = HEADERS | {"Content-Type": f"{TYPES[path.suffix]}; charset=utf-8"}
    return web.FileResponse(path, headers=headers)


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
