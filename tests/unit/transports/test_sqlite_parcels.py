"""Letters of any size: in the datagram, beside it, or not at all."""

import contextlib
import os
import resource
import socket
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from channels_trunk.transports.sqlite import parcels
from channels_trunk.transports.sqlite.doorbell import Doorbell, Rung
from channels_trunk.transports.sqlite.rings import (
    LARGEST_LETTER,
    LONGEST,
    PLAIN_RING,
    Letter,
    fits,
    pack_letter,
    unpack,
)

FILE = 7
MEGABYTE = 1_000_000
HEAD = len(b"L") + 2 * 8

Pair = tuple[Doorbell, Doorbell]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    found = [Doorbell(str(tmp_path / "x.sqlite3"), f"tk{number:016d}") for number in range(2)]
    with contextlib.ExitStack() as stack:
        for doorbell in found:
            doorbell.open()
            stack.callback(doorbell.close)
        yield found[0], found[1]


def _send(sender: Doorbell, receiver: Doorbell, frame: bytes) -> Rung:
    return sender.ring(receiver.address, pack_letter(FILE, Letter(3, frame)))


def _letters(doorbell: Doorbell) -> list[object]:
    doorbell.answer()
    found: list[object] = [unpack(FILE, post) for post in doorbell.taken]
    doorbell.taken.clear()
    return found


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def _no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("size", [1, LONGEST - HEAD, LONGEST - HEAD + 1, MEGABYTE, LARGEST_LETTER])
def test_a_letter_of_any_size_comes(pair: Pair, size: int) -> None:
    here, there = pair
    frame = os.urandom(size)
    assert fits(frame)
    assert _send(here, there, frame) is Rung.HEARD
    assert there.has_post
    assert _letters(there) == [Letter(3, frame)]
    assert not there.has_post


def test_what_is_larger_is_no_letter() -> None:
    assert not fits(bytes(LARGEST_LETTER + 1))


def test_small_and_large_ones_come_in_order(pair: Pair) -> None:
    here, there = pair
    frames = [b"1", b"2" * MEGABYTE, b"3"]
    there.ring(there.address)  # from another one: what others have sent is no reason to wait
    assert _letters(there) == [None]
    large_first = [frames[1], frames[0], frames[2]]
    assert [_send(here, there, frame) for frame in large_first] == [Rung.HEARD] * 3
    assert _letters(there) == [Letter(3, frame) for frame in large_first]


def test_a_process_that_reads_nothing_holds_one_large_letter_of_each_sender(pair: Pair) -> None:
    """The file carries the rest, so that a stopped process does not fill the memory."""
    here, there = pair
    large = bytes(MEGABYTE)
    assert _send(here, there, large) is Rung.HEARD
    assert _send(here, there, large) is Rung.FULL
    assert len(_letters(there)) == 1
    assert _send(here, there, large) is Rung.HEARD
    assert len(_letters(there)) == 1


def test_no_descriptor_stays_open(pair: Pair) -> None:
    here, there = pair
    _send(here, there, b"the line is there")
    there.answer()
    before = _descriptors()
    for _ in range(3):
        assert _send(here, there, bytes(MEGABYTE)) is Rung.HEARD
        assert _send(here, there, bytes(MEGABYTE)) is Rung.FULL
        there.answer()
    assert _descriptors() == before


def test_a_sender_without_a_descriptor_leaves_it_to_the_file(pair: Pair) -> None:
    here, there = pair
    with _no_descriptor_left():
        assert _send(here, there, bytes(MEGABYTE)) is Rung.FULL  # neither a line nor memory
    _send(here, there, b"the line is there")
    assert len(_letters(there)) == 1
    with _no_descriptor_left():
        assert _send(here, there, bytes(MEGABYTE)) is Rung.FULL
    assert _letters(there) == []


def test_a_receiver_without_a_descriptor_knows_that_it_lost_a_letter(pair: Pair) -> None:
    here, there = pair
    _send(here, there, bytes(MEGABYTE))
    _send(here, there, b"2")
    with _no_descriptor_left():
        there.answer()
    assert there.lost == 1
    assert there.taken[0] == PLAIN_RING
    assert _letters(there) == [None, Letter(3, b"2")]


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_a_system_that_gives_no_memory_leaves_it_to_the_file(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    here, there = pair
    _send(here, there, b"the line is there")
    there.answer()
    before = _descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        assert _send(here, there, bytes(MEGABYTE)) is Rung.FULL
    assert _descriptors() == before


def test_where_there_is_no_such_memory_small_letters_come(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    here, there = pair
    monkeypatch.setattr(parcels, "_ARE_THERE", False)
    assert _send(here, there, bytes(MEGABYTE)) is Rung.FULL
    assert _send(here, there, b"2") is Rung.HEARD
    assert _letters(there) == [Letter(3, b"2")]


def test_a_socket_that_takes_less_is_not_called_unreachable(pair: Pair) -> None:
    """As on macOS, where a datagram holds 2 KiB."""
    here, there = pair
    _send(here, there, b"the line is there")
    [line] = here._lines.values()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    assert _send(here, there, bytes(LONGEST - HEAD)) is Rung.FULL


def test_a_large_letter_outlives_its_sender(pair: Pair) -> None:
    here, there = pair
    _send(here, there, b"x" * MEGABYTE)
    here.close()
    assert _letters(there) == [Letter(3, b"x" * MEGABYTE)]


def test_a_large_letter_is_taken_from_a_socket_that_is_made_anew(pair: Pair) -> None:
    here, there = pair
    _send(here, there, b"x" * MEGABYTE)
    os.unlink(there.address)
    there.open()
    assert _letters(there) == [Letter(3, b"x" * MEGABYTE)]


def _pipes() -> list[int]:
    return list(os.pipe())


def _too_large() -> list[int]:
    memory = os.memfd_create("x")
    os.truncate(memory, LARGEST_LETTER + 1)
    return [memory]


def _empty() -> list[int]:
    return [os.memfd_create("x"), os.memfd_create("y")]


@pytest.mark.parametrize("make", [_pipes, _too_large, _empty])
def test_what_a_stranger_sends_only_rings(pair: Pair, make: Callable[[], list[int]]) -> None:
    """Nothing is waited for, and nothing stays open."""
    _, there = pair
    given = make()
    before = _descriptors()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", given))]
        stranger.sendmsg([b"L" * HEAD], rights, 0, there.address)
    assert _letters(there) == [None]
    assert _descriptors() == before
    for descriptor in given:
        os.close(descriptor)
