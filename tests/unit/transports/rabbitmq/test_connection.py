"""Who reads a connection's socket."""

import asyncio
import socket

import pytest

from channels_trunk.transports.rabbitmq.address import parse_address
from channels_trunk.transports.rabbitmq.connection import Connection
from channels_trunk.transports.rabbitmq.line import Line


async def test_a_loop_that_has_left_the_reading_to_others_does_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    came: list[bool] = []
    connection = Connection(
        parse_address("amqp://127.0.0.1/"),
        lost=lambda _error: None,
        blocked=lambda _reason: None,
        came=lambda: came.append(True),
    )
    monkeypatch.setattr(connection, "read", lambda: True)  # there may be more, each time
    with theirs:
        connection._line = Line(ours, None)
        connection.read_here()
        connection._read_here()
        await asyncio.sleep(0)
        assert len(came) == 2
        connection.read_elsewhere()
        await asyncio.sleep(0)
        connection.abort()
    assert len(came) == 2
