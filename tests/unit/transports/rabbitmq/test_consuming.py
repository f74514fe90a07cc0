"""How many messages a consumer has at hand."""

from channels_trunk.transports.rabbitmq.consuming import prefetch_for


def prefetch(limit: int, *, present: int = 0, capacity: int = 1000) -> int:
    return prefetch_for(limit, present=present, capacity=capacity)


def test_where_one_is_claimed_at_a_time_one_is_at_hand() -> None:
    assert prefetch(1) == prefetch(1, present=64) == 1


def test_where_more_are_claimed_there_are_as_many() -> None:
    assert [prefetch(limit) for limit in (2, 8, 9, 64, 1000)] == [8, 8, 64, 64, 64]


def test_it_does_not_change_with_each_claim() -> None:
    assert [prefetch(limit, present=64) for limit in (9, 4, 3)] == [64, 64, 8]


def test_an_eighth_of_the_capacity_at_most() -> None:
    assert prefetch(64, capacity=100) == 12
    assert prefetch(64, capacity=3) == 1
