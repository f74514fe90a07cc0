"""Rings that carry their row: believed only where nothing can have been missed."""

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import DataObject, binary, data, integers, sampled_from

from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.transports.base import NodeContext, Page
from channels_trunk.transports.sqlite.clocks import Clocks
from channels_trunk.transports.sqlite.connection import SQLiteSettings, connect, create_schema
from channels_trunk.transports.sqlite.doorbell import Doorbell, Rung
from channels_trunk.transports.sqlite.log_reader import LogReader
from channels_trunk.transports.sqlite.rings import (
    LONGEST,
    PLAIN_RING,
    Letter,
    Parcel,
    Post,
    Told,
    pack_letter,
    pack_ring,
    unpack,
)
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


@pytest.mark.parametrize("size", [1, 2048])
def test_a_datagram_carries_a_row_or_a_letter(size: int) -> None:
    frame = b"x" * size
    assert unpack(FILE, pack_ring(FILE, Told(12, frame))) == Told(12, frame)
    assert unpack(FILE, pack_letter(FILE, Letter(12, frame))) == Letter(12, frame)


def test_a_large_row_is_left_in_the_file() -> None:
    assert pack_ring(FILE, Told(12, b"x" * 2049)) == PLAIN_RING


@pytest.mark.parametrize("datagram", [b"", PLAIN_RING, b"short", b"\xff" * 40, pack_ring(FILE + 1, Told(12, b"x"))])
def test_others_only_ring(datagram: bytes) -> None:
    assert unpack(FILE, datagram) is None


def test_a_letter_from_another_file_is_behind_nothing() -> None:
    assert unpack(FILE, pack_letter(FILE + 1, Letter(12, b"x"))) == Letter(0, b"x")


@given(binary(max_size=60), sampled_from([b"", b"R", b"L", PLAIN_RING]), integers(-(2**63), 2**63 - 1))
def test_any_datagram_is_a_ring_at_least(junk: bytes, kind: bytes, number: int) -> None:
    head = kind + number.to_bytes(8, "big", signed=True)
    for post in (junk, kind + junk, head + junk, Parcel(head, junk), Parcel(junk, b""), Parcel(b"", junk)):
        found = unpack(FILE, post)
        assert found is None or isinstance(found.frame, bytes)


def _taken(doorbell: Doorbell) -> list[Post]:
    doorbell.answer()
    found = list(doorbell.taken)
    doorbell.taken.clear()
    return found


def _has_post(doorbell: Doorbell) -> bool:
    return doorbell.has_post


def test_datagrams_come_in_order_and_once(doorbells: list[Doorbell]) -> None:
    here, there, other = doorbells
    assert _taken(here) == []
    assert not _has_post(here)
    there.ring(here.address, b"1")
    other.ring(here.address, b"2")
    assert there.ring(here.address, b"3") is Rung.HEARD
    assert _has_post(here)
    assert _taken(here) == [b"1", b"2", b"3"]
    assert not _has_post(here)


def test_what_was_taken_and_not_read_is_post(doorbells: list[Doorbell]) -> None:
    here, there, _ = doorbells
    there.ring(here.address, b"1")
    here.answer()
    assert here.has_post


def test_the_sender_is_told_when_the_socket_takes_no_more(doorbells: list[Doorbell]) -> None:
    here, there, _ = doorbells
    rung = [there.ring(here.address, b"%d" % number) for number in range(5_000)]
    taken = rung.count(Rung.HEARD)
    assert taken < 5_000
    assert set(rung) == {Rung.HEARD, Rung.FULL}
    assert _taken(here) == [b"%d" % number for number in range(taken)]


def test_what_was_taken_from_a_socket_outlives_it(doorbells: list[Doorbell]) -> None:
    here, there, _ = doorbells
    there.ring(here.address, b"1")
    os.unlink(here.address)
    there.ring(here.address, b"2")  # the process is still there
    here.open()
    there.ring(here.address, b"3")
    assert _taken(here) == [b"1", b"2", b"3"]


def test_who_leaves_rings_unread_hinders_nobody(doorbells: list[Doorbell]) -> None:
    here, stopped, awake = doorbells
    big = b"x" * LONGEST
    while here.ring(stopped.address, big) is Rung.HEARD:
        pass
    assert here.ring(awake.address, b"row") is Rung.HEARD
    assert _taken(awake) == [b"row"]


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
    assert here.ring(there.address, b"row") is Rung.HEARD
    assert _taken(there)[-1] == b"row"


def test_a_line_to_a_dead_process_tells(doorbells: list[Doorbell]) -> None:
    here, there, _ = doorbells
    address = there.address
    assert here.ring(address) is Rung.HEARD
    there.abandon()  # the descriptor is gone, the name is not: as after kill -9
    assert here.ring(address) is Rung.NOBODY
    assert here.probe(address) is Rung.NOBODY
    os.unlink(address)


def test_out_of_descriptors_it_rings_all_the_same(doorbells: list[Doorbell]) -> None:
    here, there, _ = doorbells
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert here.ring(there.address, b"row") is Rung.HEARD
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert _taken(there) == [b"row"]


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

    def __init__(self, path: str, doorbell: Doorbell) -> None:
        file = SQLiteSettings(path, own_file=True)
        self.db = connect(file, busy_timeout=1)
        create_schema(self.db, path)
        self.doorbell = doorbell
        self.sink = RecordingSink()
        self.codec = Codec(serializer_format="msgpack", cipher=None)
        context = NodeContext(NODES[0], "p", self.codec, self.sink, FakeClock().as_clock(), lambda _: 100)
        reading = connect(file, busy_timeout=0, read_only=True)
        self.reader = LogReader(
            reading, context, Traffic(lambda: None), doorbell, Clocks(FakeClock().as_clock()), position=0, file_id=FILE
        )
        self.newest = 0

    def frame(self, text: str) -> bytes:
        return self.codec.encode_frame(NODES[1], [Envelope(Kind.GROUP, "g", 2e9, text.encode())])

    def append(self, text: str) -> Told:
        frame = self.frame(text)
        insert = "INSERT INTO trunk_log (prefix, origin, expires_at, frame) VALUES ('p', ?, 2e9, ?) RETURNING id"
        [(self.newest,)] = self.db.execute(insert, (NODES[1], frame)).fetchall()
        return Told(self.newest, frame)

    def append_and_ring(self, text: str, *, told: str | None = None) -> None:
        """With `told` the ring says something else than the row, to tell which of both was read."""
        row = self.append(text).row
        self.doorbell.taken.append(pack_ring(FILE, Told(row, self.frame(told or text))))

    def letter(self, text: str, *, after: int | None = None) -> None:
        """A letter comes from the node that appends."""
        letter = Letter(self.newest if after is None else after, self.frame(text))
        self.doorbell.taken.append(pack_letter(FILE, letter))

    def read(self) -> list[str]:
        """One page."""
        return [envelope.body.decode() for envelope in self.page().envelopes]

    def page(self) -> Page:
        return self.reader.read()

    def read_all(self) -> list[str]:
        """All pages, as the hub does it."""
        found: list[str] = []
        more = True
        while more:
            page = self.page()
            found += [envelope.body.decode() for envelope in page.envelopes]
            more = page.more
        return found


@pytest.fixture
def log(tmp_path: Path, doorbells: list[Doorbell]) -> Iterator[Log]:
    with ExitStack() as stack:
        log = Log(str(tmp_path / "x.sqlite3"), doorbells[0])
        stack.enter_context(closing(log.db))
        stack.callback(log.reader.close)
        assert log.read() == []
        yield log


def test_the_next_row_is_taken_from_its_ring_once(log: Log) -> None:
    log.append_and_ring("written", told="told")
    assert log.read() == ["told"]
    assert log.read() == []
    assert log.reader.position == 1


def test_behind_a_row_that_was_not_told_the_file_is_read(log: Log) -> None:
    log.append("one")
    log.append_and_ring("two", told="told")
    assert log.read_all() == ["one", "two"]


def test_of_several_rings_none_is_believed(log: Log) -> None:
    """The socket may have been full, and a ring lost."""
    log.append_and_ring("one", told="told")
    log.append_and_ring("two", told="told")
    log.append("three")
    assert log.read_all() == ["one", "two", "three"]


def test_a_ring_that_comes_late_repeats_nothing(log: Log) -> None:
    log.append_and_ring("one")
    ring = log.doorbell.taken.pop()
    assert log.read() == ["one"]
    log.doorbell.taken.append(ring)
    assert log.read() == []
    assert not log.sink.gaps


def test_who_asks_for_the_file_is_never_put_off_by_a_ring(log: Log) -> None:
    log.append_and_ring("one", told="told")
    log.append("two")
    log.reader.look()
    assert log.read_all() == ["one", "two"]


def test_a_ring_from_another_file_sends_the_reader_to_its_own(log: Log) -> None:
    told = log.append("written")
    log.doorbell.taken.append(pack_ring(FILE + 1, Told(told.row, log.frame("told"))))
    assert log.read() == ["written"]


def test_a_broken_frame_is_counted_and_skipped(log: Log) -> None:
    log.doorbell.taken.append(pack_ring(FILE, Told(1, b"\x09broken")))
    assert log.read() == []
    log.doorbell.taken.append(pack_letter(FILE, Letter(0, b"\x09broken")))
    assert log.read() == []
    assert len(log.sink.skips) == 2
    assert log.reader.position == 1


def test_a_trimmed_log_is_a_gap_whatever_was_told(log: Log) -> None:
    log.append("one")
    log.append_and_ring("two", told="told")
    log.db.execute("DELETE FROM trunk_log WHERE id = 1")
    assert log.read() == ["two"]
    assert len(log.sink.gaps) == 1


def test_a_letter_needs_no_file(log: Log) -> None:
    log.db.execute("DROP TABLE trunk_log")
    log.letter("letter")
    assert log.read() == ["letter"]


def test_a_letter_comes_behind_the_rows_before_it(log: Log) -> None:
    log.append("one")
    log.letter("letter")
    log.append("two")
    assert log.read_all() == ["one", "letter", "two"]


def test_a_letter_that_could_not_be_taken_is_a_gap_once(log: Log) -> None:
    """What was taken beside it comes."""
    log.doorbell.lost = 1
    log.doorbell.taken.append(PLAIN_RING)
    log.letter("letter")
    assert log.read_all() == ["letter"]
    log.reader.look()
    assert log.read_all() == []
    assert log.sink.gaps == ["a large message came while this process had no descriptor left to take it by"]


def test_letters_behind_the_page_wait_for_the_next(log: Log) -> None:
    expected = []
    for number in range(100):
        log.append(f"row {number}")
        log.letter(f"letter {number}")
        expected += [f"row {number}", f"letter {number}"]
    assert log.read_all() == expected
    assert not log.doorbell.has_post


def test_a_letter_whose_row_was_not_there_yet_waits_for_it(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes, with the row before it, after the file was asked and before the socket was emptied."""
    log.append("one")

    def meanwhile(self: Doorbell) -> None:
        monkeypatch.undo()
        log.append("two")
        log.letter("letter")

    monkeypatch.setattr(Doorbell, "answer", meanwhile)
    page = log.page()
    assert [envelope.body for envelope in page.envelopes] == [b"one"]
    assert page.more
    assert log.read_all() == ["two", "letter"]


def test_a_row_whose_ring_came_after_the_file_was_asked_is_read(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(self: Doorbell) -> None:
        monkeypatch.undo()
        log.append_and_ring("two")

    log.append("one")
    monkeypatch.setattr(Doorbell, "answer", meanwhile)
    assert log.read_all() == ["one", "two"]


def test_a_letter_that_follows_a_row_that_never_was_is_read_all_the_same(log: Log) -> None:
    log.letter("letter", after=1_000_000)
    assert log.read_all() == ["letter"]


def test_a_file_that_cannot_be_asked_loses_no_letter(log: Log) -> None:
    log.append("one")
    log.letter("letter")
    log.db.execute("ALTER TABLE trunk_log RENAME TO elsewhere")
    with pytest.raises(sqlite3.OperationalError):
        log.read()
    log.db.execute("ALTER TABLE elsewhere RENAME TO trunk_log")
    assert log.read_all() == ["one", "letter"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data())
def test_each_sender_is_heard_in_order_and_once(log: Log, draw: DataObject) -> None:
    """Two senders append, ring and send letters as they like; the socket loses rings when it is full, never letters."""
    newest = {"a": 0, "b": 0}
    sent: dict[str, list[str]] = {"a": [], "b": []}
    got: list[str] = []
    for number in range(draw.draw(integers(1, 40))):
        sender = draw.draw(sampled_from("ab"))
        act = draw.draw(sampled_from(["row", "row and ring", "letter", "read"]))
        text = f"{sender}{number}"
        if act == "read":
            got += log.read()
            continue
        sent[sender].append(text)
        if act == "letter":
            log.letter(text, after=newest[sender])
        else:
            (log.append_and_ring if act == "row and ring" else log.append)(text)
            newest[sender] = log.newest
    log.reader.look()
    got += log.read_all()
    for sender, texts in sent.items():
        assert [text for text in got if text[0] == sender] == texts
