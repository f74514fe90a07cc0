"""Who rings without end keeps a reader from nothing else, and nothing that comes meanwhile is lost."""

import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from channels_trunk.transports.sqlite import log_reader, parcels
from channels_trunk.transports.sqlite.doorbell import Doorbell
from channels_trunk.transports.sqlite.rings import PLAIN_RING, Post
from tests.unit.transports.test_sqlite_rings import NODES, Log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with ExitStack() as stack:
        log = Log(str(tmp_path / "x.sqlite3"), Doorbell(str(tmp_path / "x.sqlite3"), NODES[0]))
        stack.enter_context(closing(log.db))
        stack.callback(log.reader.close)
        assert log.read() == []
        yield log


def _while_answering(log: Log, monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object]) -> None:
    """These happen between the reader's look at the file and its look at the socket, one at each read."""
    rest = list(acts)
    monkeypatch.setattr(log.doorbell, "answer", lambda: rest.pop(0)() if rest else None)


def test_what_comes_while_datagrams_are_taken_waits_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (Doorbell(str(tmp_path / "x.sqlite3"), node) for node in NODES[:2])
    taken = 0
    receive = parcels.receive

    def refilled(sock: socket.socket) -> Post:
        nonlocal taken
        taken += 1
        assert taken < 100_000
        found = receive(sock)
        other.ring(one.address)
        return found

    monkeypatch.setattr(parcels, "receive", refilled)
    with closing(one), closing(other):
        one.open()
        other.open()
        other.ring(one.address)
        one.answer()
        assert one.has_post
        assert len(one.taken) == taken > 1
        monkeypatch.undo()


def test_a_ring_that_came_while_the_file_was_read_is_worth_one_more_question(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.reader.look()
    _while_answering(log, monkeypatch, *[lambda: log.doorbell.taken.append(PLAIN_RING)] * 3)
    page = log.page()
    assert (page.envelopes, page.more) == ([], False)


def test_a_row_that_came_while_the_file_was_read_is_read_at_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.reader.look()
    _while_answering(log, monkeypatch, lambda: log.append_and_ring("row"))
    assert log.read_all() == ["row"]


def test_letters_keep_their_places_behind_such_a_row(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def comes() -> None:
        log.letter("before")
        log.append_and_ring("row")
        log.letter("behind")

    log.reader.look()
    _while_answering(log, monkeypatch, comes)
    assert log.read_all() == ["before", "row", "behind"]


def test_a_letter_behind_a_row_that_never_was_is_read_at_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends such letters without end does not keep the reader either."""
    log.reader.look()
    _while_answering(log, monkeypatch, lambda: log.letter("of a stranger", after=2**62))
    page = log.page()
    assert ([envelope.body for envelope in page.envelopes], page.more) == ([b"of a stranger"], False)


def test_a_question_that_fails_loses_neither_rows_nor_letters(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.append("row")

    class Failing:
        """A connection that answers everything but this."""

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == log_reader._FOLLOWS:
                raise sqlite3.OperationalError("disk I/O error")
            return connection.execute(statement, *values)

        def close(self) -> None:
            connection.close()

    connection = log.reader._db
    log.reader._db = Failing()  # type: ignore[assignment]
    log.reader.look()
    _while_answering(log, monkeypatch, lambda: log.letter("letter", after=2))
    page = log.page()
    assert ([envelope.body for envelope in page.envelopes], page.more) == ([b"row"], True)
    log.reader._db = connection
    assert log.read_all() == ["letter"]
