"""Outbox, backoff, requests, quiet log: the parts of the hub that hold no thread."""

import logging
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.hub.backoff import Backoff
from channels_trunk.hub.outbox import Outbox, Outgoing
from channels_trunk.hub.quiet_log import QuietLog
from channels_trunk.hub.requests import Requests
from channels_trunk.hub.waiters import ThreadWaiter
from tests.plugins.clock import FakeClock


def outgoing(number: int, *, size: int = 1, deadline: float = 5.0) -> Outgoing:
    return Outgoing(Envelope(Kind.QUEUE, str(number), 0.0, bytes(size)), None, deadline)


def targets(batch: list[Outgoing]) -> list[int]:
    return [int(entry.envelope.target) for entry in batch]


# --- outbox


def test_a_batch_is_what_has_piled_up() -> None:
    outbox = Outbox()
    assert outbox.take() == []
    for number in range(3):
        outbox.add(outgoing(number))
    assert len(outbox) == 3
    assert targets(outbox.take()) == [0, 1, 2]
    assert len(outbox) == 0


@given(st.lists(st.integers(0, 3 << 19), max_size=40), st.integers(1, 700))
def test_batches_are_bounded_and_keep_the_order(sizes: list[int], small: int) -> None:
    outbox = Outbox()
    for number, size in enumerate([*sizes, *[1] * small]):
        outbox.add(outgoing(number, size=size))
    taken: list[int] = []
    while batch := outbox.take():
        assert len(batch) <= 500
        assert len(batch) == 1 or sum(len(entry.envelope.body) for entry in batch) <= 1 << 20
        taken += targets(batch)
    assert taken == list(range(len(sizes) + small))


def test_what_was_put_back_is_first_again() -> None:
    outbox = Outbox()
    for number in range(3):
        outbox.add(outgoing(number))
    batch = outbox.take()
    outbox.add(outgoing(3))
    outbox.put_back(batch)
    assert targets(outbox.take()) == [0, 1, 2, 3]


def test_a_batch_that_is_too_large_is_taken_apart() -> None:
    outbox = Outbox()
    for number in range(4):
        outbox.add(outgoing(number))
    outbox.put_back(outbox.take(), alone=2)
    assert targets(outbox.take()) == [0, 1]
    assert targets(outbox.take()) == [2, 3]


def test_only_what_is_late_expires() -> None:
    outbox = Outbox()
    for number in range(5):
        outbox.add(outgoing(number, deadline=float(number)))
    assert targets(outbox.expire(-1.0)) == []
    assert targets(outbox.expire(2.0)) == [0, 1, 2]
    assert targets(outbox.clear()) == [3, 4]
    assert len(outbox) == 0


# --- backoff


@given(st.integers(0, 1000))
def test_backoff_doubles_up_to_its_longest_with_jitter(seed: int) -> None:
    backoff = Backoff(first=0.1, longest=1.0, jitter=random.Random(seed))
    for step in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0):
        assert step / 2 <= backoff.delay() <= step
    backoff.reset()
    assert backoff.delay() <= 0.1


def test_two_nodes_do_not_come_back_at_once() -> None:
    delays = {Backoff(first=1.0).delay() for _ in range(20)}
    assert len(delays) > 15


# --- requests


def test_request_is_done_when_each_node_has_answered() -> None:
    requests, waiter = Requests(), ThreadWaiter()
    number = requests.open(waiter, {"a", "b"})
    assert requests.done(number, "a") == []
    assert requests.done(number, "a") == []
    assert requests.done(number, "stranger") == []
    assert requests.waiting_for(number) == {"b"}
    assert requests.done(number, "b") == [waiter]
    assert requests.done(number, "b") == []


def test_nodes_that_are_gone_need_not_answer() -> None:
    requests, waiter = Requests(), ThreadWaiter()
    number = requests.open(waiter, {"a", "b"})
    assert requests.still_alive(number, {"a", "c"}) == []
    assert requests.still_alive(number, set()) == [waiter]
    assert requests.still_alive(number, set()) == []


def test_closed_and_unknown_requests_are_nobodys() -> None:
    requests = Requests()
    number = requests.open(ThreadWaiter(), {"a"})
    other = requests.open(ThreadWaiter(), {"a"})
    assert number != other
    requests.close(number)
    requests.close(number)
    assert requests.done(number, "a") == []
    assert requests.done(999, "a") == []
    assert requests.waiting_for(other) == {"a"}


# --- quiet log


def test_a_kind_of_thing_is_said_once_per_interval(caplog: pytest.LogCaptureFixture, fake_clock: FakeClock) -> None:
    log = QuietLog(fake_clock.monotonic)
    with caplog.at_level(logging.WARNING, logger="channels_trunk"):
        for number in range(5):
            log.warning("full", "channel %s is full", number)
        log.warning("lost", "lost")
        fake_clock.advance(10.0)
        log.warning("full", "channel %s is full", 5)
        fake_clock.advance(10.0)
        log.warning("full", "channel %s is full", 6)
    assert caplog.messages == [
        "channel 0 is full",
        "lost",
        "channel 5 is full (and 4 times more since it was last said)",
        "channel 6 is full",
    ]


def test_several_things_may_be_said_at_once(caplog: pytest.LogCaptureFixture, fake_clock: FakeClock) -> None:
    log = QuietLog(fake_clock.monotonic)
    with caplog.at_level(logging.WARNING, logger="channels_trunk"):
        for times in (3, 2, 1):
            log.warning("gone", "a message is gone", times=times)
        fake_clock.advance(10.0)
        log.warning("gone", "a message is gone", times=2)
    assert caplog.messages == [
        "a message is gone (and 2 times more since it was last said)",
        "a message is gone (and 4 times more since it was last said)",
    ]
