"""Tests of the server beside this file."""

from pathlib import Path

from aiohttp import UnixConnector
from unix_socket import start, stop

from .utils import create_socket_client


async def test_clients_are_greeted(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    runner = await start(path)
    assert path.stat().st_mode & 0o777 == 0o660

    url = "ws://localhost/ws"  # the host does not matter
    async with (
        UnixConnector(str(path)) as connector,
        create_socket_client(url, connector=connector) as client,
        create_socket_client(url, connector=connector) as other_client,
    ):
        await client.send_str("Ada")

    assert client.messages == ["Hello, Ada"]
    assert other_client.messages == []
    await stop(runner, path)
    assert not path.exists()
