"""How far ahead of its receivers a node claims."""

from channels_trunk.hub.stock import BACK_AFTER, Stock


def limit(stock: Stock, now: float, *, waiting: int = 1, capacity: int = 1000) -> int:
    return stock.limit("jobs", waiting=waiting, capacity=capacity, now=now)


def test_the_first_claim_is_for_those_who_wait() -> None:
    assert limit(Stock(), 0.0, waiting=3) == 3


def test_quick_receivers_get_twice_as_many_each_time_up_to_a_limit() -> None:
    stock, now, seen = Stock(), 0.0, []
    for _ in range(9):
        count = limit(stock, now)
        seen.append(count)
        stock.handed_over("jobs", count=count, lying=count > 1, now=now)
        now += count * 0.00002  # 20 microseconds each
    assert seen == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_no_more_is_taken_than_a_few_milliseconds_of_work() -> None:
    stock = Stock()
    stock.handed_over("jobs", count=8, lying=True, now=0.0)
    assert limit(stock, 0.010) == 4  # 1.25 ms each
    assert limit(stock, 0.040) == 1


def test_jobs_that_take_long_are_claimed_one_by_one() -> None:
    stock = Stock()
    stock.handed_over("jobs", count=1, lying=False, now=0.0)
    assert limit(stock, 0.006) == 1
    assert limit(stock, 60.0, waiting=2) == 2


def test_a_claim_that_found_nothing_says_nothing_of_the_receivers() -> None:
    stock = Stock()
    stock.handed_over("jobs", count=8, lying=True, now=0.0)
    stock.handed_over("jobs", count=0, lying=False, now=0.001)
    assert not stock.lies
    assert limit(stock, 0.002) == 16
    assert limit(stock, 0.010) == 4


def test_a_first_claim_that_found_nothing_leaves_the_next_to_those_who_wait() -> None:
    stock = Stock()
    stock.handed_over("jobs", count=0, lying=True, now=0.0)
    assert limit(stock, 0.001, waiting=2) == 2
    assert stock.overdue(BACK_AFTER) == ["jobs"]


def test_an_eighth_of_the_capacity_at_most_but_never_less_than_wait() -> None:
    stock = Stock()
    stock.handed_over("jobs", count=50, lying=True, now=0.0)
    assert limit(stock, 0.001, capacity=100) == 12
    assert limit(stock, 0.001, capacity=15) == 1
    assert limit(stock, 0.001, capacity=15, waiting=3) == 3


def test_what_lies_too_long_is_told_once_and_the_pace_begins_anew() -> None:
    stock = Stock()
    stock.handed_over("jobs", count=8, lying=True, now=0.0)
    told = [(stock.lies, stock.overdue(now)) for now in (BACK_AFTER / 2, BACK_AFTER, BACK_AFTER)]
    assert told == [(True, []), (True, ["jobs"]), (False, [])]
    assert limit(stock, BACK_AFTER) == 1


def test_what_was_taken_in_the_meantime_does_not_lie() -> None:
    stock = Stock()
    stock.handed_over("jobs", count=8, lying=True, now=0.0)
    stock.handed_over("jobs", count=1, lying=False, now=0.001)
    assert not stock.lies
    stock.forget("jobs")
    assert stock.overdue(1.0) == []
