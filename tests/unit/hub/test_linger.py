"""A loop that stays awake between rings that come close together; with a fake clock, and loops that only note."""

import os
from collections.abc import Callable
from typing import Any, cast

import pytest

from channels_trunk.clock import Clock
from channels_trunk.hub import linger
from channels_trunk.hub.linger import BEHIND_A_SERVER, NEIGHBOURS, Linger, Manners, can_linger, new_linger

SOON, FAR = 0.0001, 0.001


class Turns:
    """A loop that does what is due when it is told to."""

    def __init__(self) -> None:
        self.due: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.due.append((callback, arguments))

    def turn(self) -> bool:
        """Do what is due; return whether anything was."""
        due, self.due = self.due, []
        for callback, arguments in due:
            callback(*arguments)
        return bool(due)


class Bench:
    """A linger, what time it is, and how long a turn and a way given take."""

    def __init__(self, manners: Manners = NEIGHBOURS) -> None:
        self.now, self.away, self.ways_given = 100.0, 0.0, 0
        self.linger = Linger(lambda: self.now, self._give_way, manners)

    def _give_way(self) -> None:
        self.ways_given += 1
        self.now += self.away

    def ring(self, loop: Turns, *, after: float) -> None:
        self.now += after
        self.linger.rang(cast(Any, loop))

    def ring_often(self, loop: Turns, *, apart: float = SOON) -> None:
        """Until it stays awake."""
        self.ring(loop, after=FAR)
        for _ in range(3):
            assert not loop.due
            self.ring(loop, after=apart)
        assert loop.due

    def lingers(self, loop: Turns, *, turn: float = 0.00001) -> int:
        """How many turns the loop stays awake for, with nothing else to do."""
        turns = 0
        while loop.turn():
            turns += 1
            self.now += turn
        return turns


def test_a_loop_stays_awake_behind_rings_that_are_close_and_no_longer_than_the_next_would_be() -> None:
    bench, loop = Bench(), Turns()
    bench.ring_often(loop)
    assert 15 <= bench.lingers(loop) <= 25
    assert bench.ways_given >= 15
    bench.ring(loop, after=FAR)
    assert not loop.due


@pytest.mark.parametrize("together", [1, 2, 3])
def test_a_loop_that_is_rung_a_few_times_now_and_then_sleeps(together: int) -> None:
    """A message's confirm and the answer to it: behind the second of them there is nothing to stay awake for."""
    bench, loop = Bench(), Turns()
    for _ in range(100):
        bench.ring(loop, after=FAR)
        for _ in range(together - 1):
            bench.ring(loop, after=SOON)
        assert not loop.due


def test_a_loop_stays_awake_behind_most_of_many_rings_though_some_are_late() -> None:
    bench, loop = Bench(), Turns()
    bench.ring_often(loop)
    awake = 0
    for _ in range(200):
        bench.lingers(loop)
        for after in (FAR, SOON, SOON, SOON, SOON):
            bench.ring(loop, after=after)
            awake += bool(loop.due)
            loop.turn()
    assert 700 < awake <= 800


def test_one_look_is_due_at_a_time_however_often_it_rings() -> None:
    bench, loop = Bench(), Turns()
    for _ in range(50):
        bench.ring(loop, after=0.00001)
    assert len(loop.due) == 1
    loop.turn()
    assert len(loop.due) == 1


def test_a_loop_rests_where_others_want_its_processor_and_for_longer_each_time() -> None:
    bench, loop = Bench(), Turns()
    bench.ring(loop, after=0)
    rests = []
    for _ in range(10):
        while not loop.due:
            bench.ring(loop, after=SOON)
        bench.away = 0.003
        assert bench.lingers(loop) == 1
        rested_at, bench.away = bench.now, 0.0
        while not loop.due:
            bench.ring(loop, after=SOON)
        rests.append(bench.now - rested_at)
        assert bench.lingers(loop) > 1
    assert rests[0] < 0.02
    assert rests[:4] == sorted(rests[:4])
    assert rests[3] > 4 * rests[0]
    assert max(rests) < 1.1


def test_after_many_rings_that_were_heard_a_rest_is_short_again() -> None:
    bench, loop = Bench(), Turns()
    bench.ring(loop, after=0)
    for _ in range(8):
        while not loop.due:
            bench.ring(loop, after=SOON)
        bench.away = 0.003
        bench.lingers(loop)
        bench.away = 0.0
    while not loop.due:
        bench.ring(loop, after=SOON)
    for _ in range(300):
        bench.ring(loop, after=SOON)
    bench.away = 0.003
    bench.lingers(loop)
    rested_at, bench.away = bench.now, 0.0
    while not loop.due:
        bench.ring(loop, after=SOON)
    assert bench.now - rested_at < 0.02


def test_the_loop_that_had_the_watch_before_goes_to_sleep() -> None:
    bench, before, after = Bench(), Turns(), Turns()
    bench.ring_often(before)
    bench.ring(after, after=SOON)
    assert len(after.due) == 1
    assert bench.lingers(before) == 1
    assert len(after.due) == 1
    assert bench.lingers(after) > 5


def test_behind_a_server_the_next_ring_may_take_its_time() -> None:
    bench, loop = Bench(BEHIND_A_SERVER), Turns()
    bench.ring_often(loop, apart=0.0005)
    assert 50 <= bench.lingers(loop) <= 70
    bench.ring(loop, after=FAR)
    assert not loop.due


def test_a_server_may_have_the_processor_for_a_moment_at_each_look() -> None:
    bench, loop = Bench(BEHIND_A_SERVER), Turns()
    bench.ring_often(loop)
    bench.away = 0.0001
    for _ in range(1_000):
        bench.ring(loop, after=SOON)
        assert loop.turn()
    assert loop.due


def test_others_may_have_the_processor_for_longer_now_and_then_but_not_often() -> None:
    """A few of 0.3 ms among a thousand looks are made up for; four in a row are work that is not for this loop."""
    bench, loop = Bench(BEHIND_A_SERVER), Turns()
    bench.ring_often(loop)
    for _ in range(10):
        for away, looks in ((0.0003, 1), (0.0, 1_000)):
            bench.away = away
            for _ in range(looks):
                bench.ring(loop, after=0.00001)
                assert loop.turn()
    assert loop.due
    bench.away = 0.0003
    for looks in range(1, 5):
        bench.ring(loop, after=0.00001)
        assert loop.turn()
        assert bool(loop.due) is (looks < 4)
    bench.ring(loop, after=0.00001)
    assert not loop.due


def test_which_manners_a_loop_has_and_that_it_may_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monotonic=lambda: 0.0, wall=lambda: 0.0)
    monkeypatch.setattr(linger, "can_linger", lambda: True)
    for through_server, manners in ((False, NEIGHBOURS), (True, BEHIND_A_SERVER)):
        made = new_linger(clock, through_server=through_server)
        assert made is not None
        assert made._manners is manners
    monkeypatch.setattr(linger, "can_linger", lambda: False)
    assert new_linger(clock, through_server=True) is None


def test_a_loop_whose_processor_time_is_counted_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1}, raising=False)
    for rationed in (False, True):
        monkeypatch.setattr(linger, "is_rationed", lambda rationed=rationed: rationed)
        assert can_linger() is not rationed


@pytest.mark.parametrize(("processors", "can"), [({0}, False), ({0, 1}, True), ({3, 5, 7}, True)])
def test_with_one_processor_whoever_is_to_ring_would_be_held_up(
    monkeypatch: pytest.MonkeyPatch, processors: set[int], can: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: processors, raising=False)
    monkeypatch.setattr(linger, "is_rationed", lambda: False)
    assert can_linger() is can


def test_where_affinity_cannot_be_asked_for_the_machines_processors_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(linger, "is_rationed", lambda: False)
    for count, can in ((1, False), (2, True), (None, False)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert can_linger() is can
    monkeypatch.delattr(os, "sched_yield", raising=False)
    assert not can_linger()


def test_where_a_sandbox_forbids_to_ask_a_loop_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_process: int) -> None:
        raise PermissionError("seccomp")

    monkeypatch.setattr(os, "sched_getaffinity", refuse, raising=False)
    assert not can_linger()
