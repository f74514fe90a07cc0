"""Rings that bring nothing are left for longer and longer; one that brings something is answered at once again."""

from channels_trunk.transports.throttle import Throttle

LONGEST = 0.01
# More than are free.
MANY = 1_000


def test_rings_that_bring_something_are_never_left() -> None:
    throttle = Throttle(LONGEST)
    assert {throttle.rang(found) for found in range(MANY)} == {0.0}


def test_a_few_rings_in_vain_between_two_that_bring_something_are_not_left() -> None:
    throttle = Throttle(LONGEST)
    assert {throttle.rang(number // 50) for number in range(MANY)} == {0.0}


def test_rings_in_vain_are_left_for_longer_and_longer_and_no_longer_than_the_longest() -> None:
    throttle = Throttle(LONGEST)
    pauses = [throttle.rang(7) for _ in range(MANY)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.0
    assert pauses[-1] == max(pauses) == LONGEST
    # So the work that rings make is bounded: nearly each of them is followed by the longest pause.
    assert sum(pause < LONGEST for pause in pauses) < 100


def test_one_that_brings_something_begins_anew() -> None:
    throttle = Throttle(LONGEST)
    assert [throttle.rang(7) for _ in range(MANY)][-1] == LONGEST
    assert throttle.rang(8) == 0.0
    assert throttle.rang(8) == 0.0
