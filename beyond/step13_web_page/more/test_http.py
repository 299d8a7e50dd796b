"""Tests of the server's HTTP answers: the page's files, and refused handshakes."""

from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from ..server import create_websocket_server
from ..utils import TIMEOUT, compute_port, start_server
from .processes import start_process

PORT = compute_port()
URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
async def server(no_server_errors: None, aiohttp_server: AiohttpServer) -> TestServer:
    """Give every test a fresh server; pytest-aiohttp stops it after the test."""
    app = web.Application()
    create_websocket_server(app)
    return await start_server(aiohttp_server, app, PORT)


async def ask(method: str, url: str, headers: dict[str, str]) -> tuple[int, Any]:
    """Return the status and headers of a response."""
    async with (
        ClientSession(timeout=ClientTimeout(total=TIMEOUT)) as session,
        session.request(method, url, headers=headers) as response,
    ):
        return response.status, response.headers


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def connect(url: str, origin: str | None = None, **headers: str) -> int:
    """Return the status with which the server at `url` answers a handshake."""
    own = {} if origin is None else {"Origin": origin}
    status, _ = await ask("GET", url, HANDSHAKE | own | headers)
    return status


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'"
    "; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html"),
        ("/group.js", "text/javascript"),
        ("/more/style.css", "text/css"),
    ],
)
async def test_files(path: str, content_type: str, method: str) -> None:
    status, headers = await ask(method, f"{URL}{path}", {})
    assert status == 200
    assert headers["Content-Type"] == f"{content_type}; charset=utf-8"
    assert {name: headers[name] for name in HEADERS} == HEADERS
    unchanged = {"If-None-Match": headers["ETag"]}
    status, _ = await ask(method, f"{URL}{path}", unchanged)
    assert status == 304


async def test_handshakes() -> None:
    url = f"{URL}/ws"
    assert await connect(url) == 101
    assert await connect(url, **{"Sec-WebSocket-Key": "short"}) == 400
    assert await connect(url, **{"Sec-WebSocket-Key": "\u00e9" * 24}) == 400
    status, _ = await ask("HEAD", url, HANDSHAKE)
    assert status == 405


async def test_origin() -> None:
    url, own = f"{URL}/ws", f"http://127.0.0.1:{PORT}"
    assert await connect(url) == 101
    assert await connect(url, own) == 101
    foreign = ["", "null", "http://127.0.0.1", "http://127.0.0.1:1", "http://a.example"]
    alike = [f"{own}0", f"{own}.example", f"http://a.example/{own}"]
    changed = [own.replace("http", "https"), own.replace("127.0.0.1", "localhost")]
    for origin in [*foreign, *alike, *changed]:
        assert await connect(url, origin) == 403, origin


async def test_origin_behind_proxy(aiohttp_server: AiohttpServer) -> None:
    app = web.Application()
    allowed = ["https://chat.example", "https://chat.example:444"]
    create_websocket_server(app, origins=allowed)
    server = await start_server(aiohttp_server, app, 0)
    url = str(server.make_url("/ws"))

    assert await connect(url, "https://chat.example", Host="chat.example") == 101
    assert await connect(url, "https://chat.example:444") == 101
    assert await connect(url, "http://chat.example", Host="chat.example:80") == 101
    assert await connect(url, "http://chat.example") == 403
    assert await connect(url, "https://chat.example:445") == 403
    assert await connect(url, "https://chat.example:445", Host=":80") == 400


async def test_origins_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORIGINS", "https://a.example https://b.example")
    with start_process("") as process:
        url = f"http://127.0.0.1:{process.port}/ws"
        assert await connect(url, "https://a.example") == 101
        assert await connect(url, "https://b.example") == 101
        assert await connect(url, "https://c.example") == 403
