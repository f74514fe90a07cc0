"""An attempt to connect that comes to nothing."""

import asyncio
import errno
import select
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing import eventually
from channels_trunk.transports.fork_gate import connecting
from channels_trunk.transports.postgres import watch
from channels_trunk.transports.postgres.connecting import connect
from channels_trunk.transports.postgres.settings import PostgresSettings
from channels_trunk.transports.postgres.wire import Wire
from tests.integration.postgres.conftest import HELLO, MakeLayer, sessions


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


@pytest.mark.parametrize("made_before", range(4))
async def test_a_process_without_a_descriptor_left_tries_again(
    make_layer: MakeLayer, postgres_database: str, monkeypatch: pytest.MonkeyPatch, made_before: int
) -> None:
    """Who waits for a message is not told of it: others will be closed again."""
    real, made = select.epoll, 0

    def epoll() -> select.epoll:
        nonlocal made
        made += 1
        if made == made_before + 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return real()

    monkeypatch.setattr(watch, "select", SimpleNamespace(**{**vars(select), "epoll": epoll}))
    layer = make_layer(postgres_database)
    receiving = asyncio.ensure_future(layer.receive("jobs"))
    await layer.send("jobs", HELLO)
    assert await asyncio.wait_for(receiving, 20) == HELLO
    assert layer.stats().reconnects_total == 0
    await eventually(lambda: len(sessions(postgres_database)) == 3)


async def test_a_fork_waits_until_a_connection_is_set_up(
    make_layer: MakeLayer, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child would have its socket and know nothing of it, and keep the session alive."""
    inside, simple = [], Wire.simple

    async def noted(wire: Wire, sql: str) -> list[Any]:
        if "pg_backend_pid" in sql:
            inside.append(connecting._inside)
        return await simple(wire, sql)

    monkeypatch.setattr(Wire, "simple", noted)
    await make_layer(postgres_database).send("jobs", HELLO)
    assert inside == [1, 1, 1]
