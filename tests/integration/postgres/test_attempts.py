"""An attempt to connect that comes to nothing."""

import asyncio
import socket

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.postgres.connecting import connect
from channels_trunk.transports.postgres.settings import PostgresSettings


async def attempt(listener: socket.socket, *, within: int) -> None:
    host, port = listener.getsockname()
    dsn = f"host={host} port={port} dbname=x user=x connect_timeout={within}"
    await connect(
        PostgresSettings(dsn),
        listening=False,
        application_name="a test",
        on_notices=lambda _notices: None,
        on_came=lambda: None,
        on_lost=lambda _error: None,
    )


@pytest.mark.parametrize("gives_up", [True, False], ids=["timeout", "cancelled"])
async def test_it_leaves_no_socket_even_while_its_error_is_kept(gives_up: bool) -> None:
    """Whoever logs an error may keep it, and with it all that its frames hold."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        trying = asyncio.ensure_future(attempt(listener, within=2 if gives_up else 30))
        server, _ = await loop.sock_accept(listener)
        with server:
            server.setblocking(False)
            if not gives_up:
                trying.cancel()
            with pytest.raises((TransportUnavailable, asyncio.CancelledError)) as kept:
                await trying
            async with asyncio.timeout(5):
                while await loop.sock_recv(server, 4096):
                    pass  # what it had sent before
    assert kept.value is not None
