"""The socket under a connection, against a socket that the test holds."""

import asyncio
import errno
import os
import select
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.transports.rabbitmq.line import Line
from channels_trunk.transports.rabbitmq.loop_calls import LoopCalls

BIG = os.urandom(8_000_000)
Pair = tuple[Line, socket.socket]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    line = Line(ours, None)
    yield line, theirs
    line.close()
    theirs.close()


def rings(line: Line) -> bool:
    bell = line.bell()
    assert bell is not None
    return bool(select.select([bell], [], [], 0)[0])


async def test_what_the_socket_does_not_take_goes_later_and_in_order(pair: Pair) -> None:
    line, theirs = pair
    ends = [b"a", b"b"]

    def write() -> None:
        for piece in (BIG, *ends):
            with line.lock:
                line.write(piece)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    loop, received = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(10):
        while len(received) < len(BIG) + 2:
            received += await loop.sock_recv(theirs, 1 << 20)
    assert received == BIG + b"ab"
    await in_thread(lambda: thread.join(10))


async def test_the_bell_rings_while_there_is_something_to_read(pair: Pair) -> None:
    line, theirs = pair
    buffer = memoryview(bytearray(3))
    assert line.read_into(buffer) == 0
    assert (rings(line), line.has_some) == (False, False)
    theirs.send(b"12345")
    await eventually(lambda: line.has_some)
    assert line.read_into(buffer) == 3
    assert (rings(line), bytes(buffer)) == (True, b"123")
    assert line.read_into(buffer) == 2
    assert not rings(line)


async def test_the_bell_is_silent_at_the_end(pair: Pair) -> None:
    line, theirs = pair
    theirs.close()
    await eventually(lambda: line.has_some)
    with pytest.raises(EOFError):
        line.read_into(memoryview(bytearray(3)))
    assert line.is_at_end
    assert (rings(line), line.has_some) == (False, False)
    with line.lock:
        line.write(b"into the void")


async def test_nothing_is_sent_behind_what_could_not_be_sent(pair: Pair) -> None:
    """Confirms are counted: one message less, and all that follow would be taken for their neighbours."""
    line, theirs = pair

    class NoRoomOnce:
        sends = 0

        def send(self, data: bytes) -> int:
            self.sends += 1
            if self.sends == 2:
                raise OSError(errno.ENOBUFS, "no buffer space")
            return real.send(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    real = line._socket
    line._socket = cast(socket.socket, NoRoomOnce())
    for piece in (b"one", b"two", b"three"):
        with line.lock:
            line.write(piece)
    loop = asyncio.get_running_loop()
    assert await loop.sock_recv(theirs, 100) == b"one"
    assert await loop.sock_recv(theirs, 100) == b""
    with pytest.raises(EOFError):
        line.read_into(memoryview(bytearray(3)))


async def test_a_line_that_was_closed_is_silent(pair: Pair) -> None:
    line, _theirs = pair
    line.close()
    line.close()
    assert (line.bell(), line.has_some, line.fileno(), line.is_at_end) == (None, False, -1, True)


async def test_calls_into_the_loop_are_made_in_their_order() -> None:
    calls, made = LoopCalls(asyncio.get_running_loop()), list[int]()
    calls.add(made.append, 1)

    def elsewhere() -> None:
        calls.go()
        calls.add(made.append, 2)
        calls.go()

    await in_thread(elsewhere)
    calls.add(made.append, 3)
    calls.go()
    assert made == [1, 2, 3]
    await asyncio.sleep(0)
    assert made == [1, 2, 3]
