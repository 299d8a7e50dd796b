"""The WebSocket server under test."""

import os

from aiohttp import WSMsgType, web


def create_websocket_server(app: web.Application) -> None:
    """Make `app` accept WebSocket connections at `/`.

    The app is the caller's: the real one in production, a bare one in tests.
    The article's `createWebSocketServer`.
    """

    async def handle_connection(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        try:
            async for message in socket:
                match message.type:
                    case WSMsgType.TEXT:
                        await socket.send_str(message.data)
                    case WSMsgType.BINARY:
                        await socket.send_bytes(message.data)
        except ConnectionError:
            pass  # the client has gone; nobody is left to answer
        return socket

    app.router.add_get("/", handle_connection)


if __name__ == "__main__":
    app = web.Application()
    create_websocket_server(app)
    port = int(os.environ.get("PORT", "8080"))
    # A server that stops waits for its clients: by default, up to 2 x 60 seconds.
    web.run_app(app, host="127.0.0.1", port=port, shutdown_timeout=0.5)
