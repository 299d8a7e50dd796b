"""A server for the tests that passes everything on to a server elsewhere.

`make step9 SERVER=wss://chat.example/ws` runs the tests through it. All frames pass in
order, pings and close frames too. What the tests cannot see or do from here: its log,
its memory, sends that wait, and a fresh server for each test.
"""

import asyncio
import os

import pytest
from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
    WSMessage,
    WSMsgType,
    WSServerHandshakeError,
    web,
)

PATH = "/"
# Tests that look into the server's process, or start two servers.
NOT_ELSEWHERE = ("forgets", "while_a_broadcast_waits", "servers_share_nothing")
FRAMES = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)
Socket = web.WebSocketResponse | ClientWebSocketResponse


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out the tests that say nothing about a server elsewhere."""
    left_out = [it for it in items if any(part in it.name for part in NOT_ELSEWHERE)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [it for it in items if it not in left_out]


def payload(message: WSMessage) -> bytes:
    """Return what a frame carries."""
    if message.type is WSMsgType.CLOSE:
        code = message.data.to_bytes(2, "big") if message.data else b""
        return bytes(code + (message.extra or "").encode())
    data = message.data
    return data.encode() if isinstance(data, str) else bytes(data)


async def pass_on(source: Socket, target: Socket) -> None:
    """Pass on all frames, and at last the close frame."""
    while (message := await source.receive()).type in FRAMES:
        await target.send_frame(payload(message), message.type)
    if message.type is not WSMsgType.CLOSE:
        raise ConnectionError("the connection ended without a close frame")
    await target.send_frame(payload(message), message.type)


async def relay(request: web.Request) -> web.StreamResponse:
    """Connect a client with the other server, until both close or one vanishes."""
    near = web.WebSocketResponse(
        autoping=False, autoclose=False, max_msg_size=0, compress=False
    )
    async with ClientSession() as session:
        connecting = session.ws_connect(
            os.environ["URL"], autoping=False, autoclose=False, max_msg_size=0
        )
        try:
            far = await connecting
        except WSServerHandshakeError as refusal:
            return web.Response(status=refusal.status, headers=refusal.headers)
        await near.prepare(request)
        tasks = [asyncio.create_task(pass_on(*it)) for it in ((near, far), (far, near))]
        try:
            await asyncio.gather(*tasks)
        except ConnectionError:
            for task in tasks:
                task.cancel()
            if request.transport:
                request.transport.abort()
        finally:
            far._response.close()  # without another close frame
    return near


def create_websocket_server(app: web.Application) -> None:
    """Make `app` pass on what its clients say."""
    app.router.add_get(PATH, relay)
