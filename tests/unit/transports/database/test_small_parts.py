"""Parts of the database transport that need no database."""

import os
import select
import sqlite3
import sys
import threading
from typing import Any

import pytest
from django.db import DataError, Error, InterfaceError, OperationalError, ProgrammingError
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.clock import SYSTEM_CLOCK
from channels_trunk.names import new_node_id
from channels_trunk.transports.database.bell import Bell
from channels_trunk.transports.database.errors import Trouble, trouble_of
from channels_trunk.transports.database.names import plain_name, stored_name
from channels_trunk.transports.database.pace import Pace
from channels_trunk.transports.database.worker import GivenUp, Job, Worker

NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=100)


class DriverError(Exception):
    """As psycopg, psycopg2 and the drivers of MySQL have it."""

    def __init__(self, *args: Any, sqlstate: str | None = None, pgcode: str | None = None) -> None:
        super().__init__(*args)
        self.sqlstate = sqlstate
        self.pgcode = pgcode


def error(kind: type[Error], cause: Exception) -> Error:
    """What Django raises for an error of a driver."""
    made: Error = kind("some text")
    made.__cause__ = cause
    return made


def sqlite_error(code: int) -> sqlite3.OperationalError:
    cause = sqlite3.OperationalError("some text")
    cause.sqlite_errorcode = code  # type: ignore[attr-defined, unused-ignore]
    return cause


@given(NAMES, NAMES)
def test_names_that_differ_in_case_or_spaces_are_stored_differently(one: str, other: str) -> None:
    assert plain_name(stored_name(one)) == one
    assert len(stored_name(one)) <= 200
    if one != other:
        assert stored_name(one).lower().rstrip() != stored_name(other).lower().rstrip()


@pytest.mark.parametrize(
    ("raised", "trouble"),
    [
        (error(OperationalError, DriverError(sqlstate="40001")), Trouble.BUSY),
        (error(OperationalError, DriverError(sqlstate="40P01")), Trouble.BUSY),
        (error(OperationalError, DriverError(pgcode="55P03")), Trouble.BUSY),
        (error(OperationalError, DriverError(sqlstate="57014")), Trouble.BUSY),
        (error(OperationalError, DriverError(sqlstate="57P01")), Trouble.AWAY),
        (error(OperationalError, DriverError(sqlstate="53100")), Trouble.FULL),
        (error(ProgrammingError, DriverError(sqlstate="42P01")), Trouble.SCHEMA),
        (error(ProgrammingError, DriverError(sqlstate="42501")), Trouble.REFUSED),
        (error(OperationalError, DriverError("no server")), Trouble.AWAY),
        (error(InterfaceError, DriverError("closed")), Trouble.AWAY),
        (error(OperationalError, DriverError(1213, "deadlock")), Trouble.BUSY),
        (error(OperationalError, DriverError(1205, "lock wait")), Trouble.BUSY),
        (error(OperationalError, DriverError(2013, "lost")), Trouble.AWAY),
        (error(OperationalError, DriverError(1045, "denied")), Trouble.REFUSED),
        (error(OperationalError, DriverError(1114, "full")), Trouble.FULL),
        (error(ProgrammingError, DriverError(1146, "no table")), Trouble.SCHEMA),
        (error(DataError, DriverError(1406, "too long")), Trouble.REFUSED),
        (error(OperationalError, DriverError(1205, "lock wait", sqlstate="HY000")), Trouble.BUSY),
        (error(OperationalError, DriverError(1290, "read-only", sqlstate="HY000")), Trouble.AWAY),
        (error(OperationalError, DriverError(1020, "has changed", sqlstate="HY000")), Trouble.BUSY),
        (error(OperationalError, sqlite_error(5)), Trouble.BUSY),
        (error(OperationalError, sqlite_error(261)), Trouble.BUSY),  # SQLITE_BUSY_RECOVERY
        (error(OperationalError, sqlite_error(6)), Trouble.BUSY),
        (error(OperationalError, sqlite_error(13)), Trouble.FULL),
        (error(OperationalError, sqlite_error(10)), Trouble.AWAY),
        (error(OperationalError, sqlite_error(1)), Trouble.REFUSED),
    ],
)
def test_errors_are_told_apart_by_their_codes(raised: Error, trouble: Trouble) -> None:
    assert trouble_of(raised) is trouble


def test_pace_is_quick_after_traffic_and_slows_down() -> None:
    pace = Pace(0.04, 100, in_a_file=True, now=0)
    assert pace.wait() == 0.04
    pace.stir(now=1, much=False)
    waits = [pace.wait() for _ in range(12)]
    assert waits == sorted(waits)
    assert waits[0] < 0.005
    assert waits[-1] == 0.04


def test_a_node_is_busy_after_much_traffic() -> None:
    pace = Pace(0.04, 100, in_a_file=True, now=0)
    pace.stir(now=1, much=False)
    assert not pace.is_busy(1)
    pace.stir(now=2, much=True)
    assert pace.is_busy(2.001)
    assert not pace.is_busy(2.1)


@pytest.mark.parametrize(("in_a_file", "many"), [(True, 16), (False, 2)])
def test_pace_is_slower_among_many_jobs(in_a_file: bool, many: int) -> None:
    pace = Pace(0.04, 100, in_a_file=in_a_file, now=0)
    pace.stir(now=1, much=True)
    quick = pace.wait()
    pace.stir(now=2, much=True, jobs=many - 1)
    assert pace.wait() == quick
    pace.stir(now=3, much=True, jobs=many)
    assert pace.wait() > quick


def test_a_bell_is_heard_until_it_is_answered() -> None:
    one, other = Bell(new_node_id()), Bell(node := new_node_id())
    ears = other.fileno()
    assert ears is not None
    one.ring([new_node_id(), node])
    assert select.select([ears], [], [], 10)[0]
    other.answer()
    assert not select.select([ears], [], [], 0)[0]
    for _ in range(1_000):  # nobody answers, and nobody is held up
        one.ring([node])
    other.answer()
    other.close()
    one.ring([node])
    assert other.fileno() is None
    other.answer()
    one.close()
    one.ring([node])


def test_a_bell_that_a_fork_has_copied_stays_its_parents() -> None:
    one, parents = Bell(new_node_id()), Bell(node := new_node_id())
    ears = parents.fileno()
    assert ears is not None
    copy = os.dup(ears)
    parents.abandon()
    one.ring([node])
    assert select.select([copy], [], [], 10)[0]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ears)
    os.close(copy)
    one.close()


def test_where_there_are_no_such_sockets_nobody_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    bell = Bell(new_node_id())
    assert bell.fileno() is None
    assert not bell.open()
    assert bell.why_late({}).endswith("cannot wake others: this system has no Unix sockets without a file")
    bell.ring([new_node_id()])
    bell.answer()
    bell.close()
    bell.abandon()


def test_a_node_that_lives_and_cannot_be_reached_is_told_from_one_that_has_ended() -> None:
    bell, reached, other = Bell(new_node_id()), Bell(node := new_node_id()), new_node_id()
    assert not bell.why_late({node: 1.0, other: 1.0})
    assert not bell.why_late({node: 2.0, other: 1.0})
    said = bell.why_late({node: 3.0, other: 2.0})
    assert said.startswith("the sockets of 1 other processes cannot be reached from this one (Connection refused)")
    assert bell.why_late({node: 4.0, other: 2.0}) == said
    there = Bell(other)
    assert not bell.why_late({node: 5.0, other: 3.0})
    there.close()
    assert not bell.why_late({node: 6.0, other: 3.0})
    assert not bell.why_late({node: 7.0})
    bell.close()
    reached.close()


def test_a_node_rests_only_without_traffic_and_receivers() -> None:
    pace = Pace(0.04, 100, in_a_file=True, now=0)
    pace.stir(now=5, much=False)
    assert not pace.rests(105, lambda: False)
    assert not pace.rests(105.1, lambda: True)
    assert pace.rests(105.1, lambda: False)
    pace.stir(now=106, much=True)
    assert not pace.rests(107, lambda: False)


def commits(job: Job[int]) -> int:
    job.commit_begins()
    return 2


def test_a_job_is_given_up_until_its_commit_begins() -> None:
    waiting: Job[int] = Job(lambda job: 1)
    assert waiting.give_up()
    waiting.run()
    assert isinstance(waiting.outcome.exception(), GivenUp)
    committing: Job[int] = Job(commits)
    committing.run()
    assert not committing.give_up()
    assert committing.is_relied_on
    assert committing.outcome.result() == 2


def test_the_worker_does_jobs_in_order_between_looks_and_ends_after_them() -> None:
    looks: list[int] = []
    ended = threading.Event()

    def look() -> float:
        looks.append(1)
        return 0.0  # there is always more

    worker = Worker("a test", look=look, end=ended.set, clock=SYSTEM_CLOCK)
    worker.look_within(0)
    worker.submit(Job(lambda _job: None)).outcome.result(timeout=10)  # looks and jobs take turns
    done: list[int] = []
    jobs = [worker.submit(Job(lambda _job, number=number: done.append(number))) for number in range(20)]  # type: ignore[misc]
    worker.stop()
    for job in jobs:
        job.outcome.result(timeout=10)
    assert ended.wait(10)
    assert done == list(range(20))
    assert looks


def test_a_look_that_is_asked_for_during_a_look_comes_at_once() -> None:
    """Who rings may have committed just after that look has read."""
    looking, twice = threading.Event(), threading.Event()
    go_on = threading.Event()

    def look() -> float:
        if looking.is_set():
            twice.set()
        looking.set()
        go_on.wait(10)
        return 60.0

    worker = Worker("a test", look=look, end=lambda: None, clock=SYSTEM_CLOCK)
    worker.look_within(0)
    assert looking.wait(10)
    worker.look_within(0)
    go_on.set()
    assert twice.wait(10)
    worker.stop()


def test_nobody_is_in_the_database_while_the_worker_is_held() -> None:
    worker = Worker("a test", look=lambda: 1.0, end=lambda: None, clock=SYSTEM_CLOCK)
    worker.hold()
    job: Job[None] = worker.submit(Job(lambda _job: None))
    with pytest.raises(TimeoutError):
        job.outcome.result(timeout=0.05)
    worker.release()
    job.outcome.result(timeout=10)
    worker.stop()
