"""A connection that is being made when the process forks: its end is seen, whatever the child does."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from channels_trunk.transports import fork_gate
from channels_trunk.transports.rabbitmq.address import parse_address
from channels_trunk.transports.rabbitmq.connection import Connection

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@contextmanager
def child() -> Iterator[None]:
    """A fork of this process, which lives for as long as this lasts."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    try:
        yield
    finally:
        os.close(write)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def ends(theirs: socket.socket) -> None:
    """Wait until the other side has hung up."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while await loop.sock_recv(theirs, 100):
            pass


@pytest.mark.parametrize("scheme", ["amqp", "amqps"], ids=["in the greeting", "in the TLS handshake"])
async def test_a_connection_that_is_being_opened(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_gate, "_PATIENCE", 0.01)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = parse_address(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/")
        connection = Connection(address, lost=lambda _error: None, blocked=lambda _reason: None)
        opening = asyncio.create_task(connection.open(None))
        theirs, _ = await loop.sock_accept(server)
        with theirs:
            theirs.setblocking(False)
            assert await loop.sock_recv(theirs, 1)  # it waits for an answer
            with child():
                opening.cancel()
                await asyncio.wait({opening})
                await ends(theirs)
