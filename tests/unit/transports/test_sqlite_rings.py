"""Rings that carry their row: believed only where nothing can have been missed."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.transports.base import NodeContext, Page
from channels_trunk.transports.sqlite.connection import SQLiteSettings, connect, create_schema
from channels_trunk.transports.sqlite.doorbell import Doorbell, Rung
from channels_trunk.transports.sqlite.log_reader import LogReader
from channels_trunk.transports.sqlite.rings import LONGEST_RING, PLAIN_RING, Told, pack_ring, unpack_ring
from channels_trunk.transports.sqlite.traffic import Traffic
from tests.plugins.clock import FakeClock
from tests.unit.transports.test_contract import RecordingSink

FILE = 7
NODES = [f"tk{number:016d}" for number in range(3)]


@pytest.fixture
def doorbells(tmp_path: Path) -> Iterator[list[Doorbell]]:
    found = [Doorbell(str(tmp_path / "x.sqlite3"), node) for node in NODES]
    for doorbell in found:
        doorbell.open()
    yield found
    for doorbell in found:
        doorbell.close()


@pytest.mark.parametrize("size", [0, 1, 2048])
def test_a_ring_carries_a_row(size: int) -> None:
    ring = pack_ring(FILE, Told(12, b"x" * size))
    assert len(ring) <= LONGEST_RING
    assert unpack_ring(FILE, ring) == (Told(12, b"x" * size) if size else None)


def test_a_large_row_is_left_in_the_file() -> None:
    assert pack_ring(FILE, Told(12, b"x" * 2049)) == PLAIN_RING


@pytest.mark.parametrize("ring", [b"", PLAIN_RING, b"short", b"\xff" * 16, pack_ring(FILE + 1, Told(12, b"x"))])
def test_other_rings_carry_nothing(ring: bytes) -> None:
    assert unpack_ring(FILE, ring) is None


def test_one_ring_is_answered_with_what_it_carries(doorbells: list[Doorbell]) -> None:
    here, there, _ = doorbells
    assert here.answer() == b""
    assert there.ring(here.address, b"row") is Rung.HEARD
    assert here.answer() == b"row"
    assert here.answer() == b""


def test_of_several_rings_none_is_believed(doorbells: list[Doorbell]) -> None:
    here, there, other = doorbells
    there.ring(here.address, b"row 1")
    other.ring(here.address, b"row 2")
    assert here.answer() == b""


def test_after_a_lost_ring_an_answer_carries_nothing(doorbells: list[Doorbell]) -> None:
    here, there, _ = doorbells
    for number in range(5_000):
        assert there.ring(here.address, b"%d" % number) is Rung.HEARD
    carried = [here.answer() for _ in range(5_000)]
    assert carried[0] == b""  # whoever sees it looks into the file, where the lost ones' rows are
    assert all(ring == b"" for ring in carried)


def test_who_leaves_rings_unread_hinders_nobody(doorbells: list[Doorbell]) -> None:
    here, stopped, awake = doorbells
    big = b"x" * LONGEST_RING
    for _ in range(5_000):
        here.ring(stopped.address, big)
    assert here.ring(awake.address, b"row") is Rung.HEARD
    assert awake.answer() == b"row"


def test_a_socket_that_was_made_anew_is_rung(doorbells: list[Doorbell]) -> None:
    here, there, _ = doorbells
    here.ring(there.address)
    address = there.address
    there.close()
    assert here.ring(address) is Rung.UNREACHABLE
    there.open()
    assert here.ring(there.address, b"row") is Rung.HEARD
    os.unlink(there.address)
    assert here.ring(there.address) is Rung.HEARD  # its process still holds it
    there.open()
    there.answer()
    assert here.ring(there.address, b"row") is Rung.HEARD
    assert there.answer() == b"row"


def test_a_line_to_a_dead_process_tells(doorbells: list[Doorbell]) -> None:
    here, there, _ = doorbells
    address = there.address
    assert here.ring(address) is Rung.HEARD
    there.abandon()  # the descriptor is gone, the name is not: as after kill -9
    assert here.ring(address) is Rung.NOBODY
    assert here.probe(address) is Rung.NOBODY
    os.unlink(address)


def test_lines_that_nobody_needs_are_freed(doorbells: list[Doorbell]) -> None:
    here, there, other = doorbells
    before = len(os.listdir("/proc/self/fd"))
    here.ring(there.address)
    here.ring(other.address)
    here.probe(other.address)
    assert len(os.listdir("/proc/self/fd")) == before + 2
    here.hang_up({other.address})
    assert len(os.listdir("/proc/self/fd")) == before + 1


class Log:
    """A file with a reader behind it, and what the reader finds."""

    def __init__(self, path: str) -> None:
        settings = SQLiteSettings(path, own_file=True)
        self.db = connect(settings, busy_timeout=1)
        create_schema(self.db, path)
        self.sink = RecordingSink()
        self.codec = Codec(serializer_format="msgpack", cipher=None)
        context = NodeContext(NODES[0], "p", self.codec, self.sink, FakeClock().as_clock(), lambda _: 100)
        reading = connect(settings, busy_timeout=0, read_only=True)
        self.reader = LogReader(reading, context, Traffic(lambda: None), position=0, file_id=FILE)

    def frame(self, text: str) -> bytes:
        return self.codec.encode_frame(NODES[1], [Envelope(Kind.GROUP, "g", 2e9, text.encode())])

    def append(self, text: str) -> Told:
        frame = self.frame(text)
        insert = "INSERT INTO trunk_log (prefix, origin, expires_at, frame) VALUES ('p', ?, 2e9, ?) RETURNING id"
        [(row,)] = self.db.execute(insert, (NODES[1], frame)).fetchall()
        return Told(row, frame)

    def read(self) -> list[str]:
        page: Page = self.reader.read()
        envelopes: Sequence[Envelope] = page.envelopes
        return [envelope.body.decode() for envelope in envelopes]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with ExitStack() as stack:
        log = Log(str(tmp_path / "x.sqlite3"))
        stack.enter_context(closing(log.db))
        stack.callback(log.reader.close)
        log.read()
        yield log


def _other_text(log: Log, told: Told) -> bytes:
    """A ring for the same row that says something else, to tell which of both was read."""
    return pack_ring(FILE, Told(told.row, log.frame("told")))


def test_the_next_row_is_taken_from_its_ring_once(log: Log) -> None:
    log.reader.rung(_other_text(log, log.append("written")))
    assert log.read() == ["told"]
    assert log.read() == []
    assert log.reader.position == 1


def test_behind_a_row_that_was_not_told_the_file_is_read(log: Log) -> None:
    log.append("one")
    log.reader.rung(_other_text(log, log.append("two")))
    assert log.read() == ["one", "two"]


def test_a_ring_that_comes_late_repeats_nothing(log: Log) -> None:
    ring = _other_text(log, log.append("one"))
    assert log.read() == ["one"]
    log.reader.rung(ring)
    assert log.read() == []
    assert not log.sink.gaps


def test_somebody_who_asks_for_the_file_is_never_put_off_by_a_ring(log: Log) -> None:
    """Two threads answer the doorbell: one found a plain ring, the other one with the row before."""
    ring = _other_text(log, log.append("one"))
    log.append("two")
    log.reader.rung(PLAIN_RING)
    log.reader.rung(ring)
    assert log.read() == ["one", "two"]


def test_a_ring_from_another_file_sends_the_reader_to_its_own(log: Log) -> None:
    told = log.append("written")
    log.reader.rung(pack_ring(FILE + 1, Told(told.row, log.frame("told"))))
    assert log.read() == ["written"]


def test_a_file_without_an_id_is_always_read(tmp_path: Path, log: Log) -> None:
    log.reader._file_id = None
    log.reader.rung(_other_text(log, log.append("written")))
    assert log.read() == ["written"]


def test_a_broken_frame_in_a_ring_is_counted_and_skipped(log: Log) -> None:
    log.reader.rung(pack_ring(FILE, Told(1, b"\x09broken")))
    assert log.read() == []
    assert len(log.sink.skips) == 1
    assert log.reader.position == 1


def test_a_trimmed_log_is_a_gap_whatever_was_told(log: Log) -> None:
    log.append("one")
    ring = _other_text(log, log.append("two"))
    with sqlite3.Connection(log.db.execute("PRAGMA database_list").fetchone()[2]) as other:
        other.execute("DELETE FROM trunk_log WHERE id = 1")
    other.close()
    log.reader.rung(ring)
    assert log.read() == ["two"]
    assert len(log.sink.gaps) == 1
