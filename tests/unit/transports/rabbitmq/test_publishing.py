"""What the broker's confirms say of batches."""

from channels_trunk.transports.rabbitmq.publishing import Batch, Confirms, Publication
from channels_trunk.transports.rabbitmq.wire import Properties


def expected(confirms: Confirms, size: int) -> Batch:
    batch = Batch(size, lambda _batch: None)
    assert confirms.expect(batch, [Publication("", "key", Properties(), b"")] * size)
    return batch


def test_one_by_one_and_many_at_once() -> None:
    confirms = Confirms()
    first, second = expected(confirms, 3), expected(confirms, 2)
    assert confirms.confirm(2, multiple=False, refused=False) == []
    assert confirms.confirm(4, multiple=True, refused=False) == [first]
    assert confirms.confirm(5, multiple=False, refused=True) == [second]
    assert (first.refused, second.refused) == (set(), {1})


def test_what_is_returned_is_told_to_those_that_wait() -> None:
    confirms = Confirms()
    done, waiting = expected(confirms, 1), expected(confirms, 1)
    confirms.confirm(1, multiple=False, refused=False)
    confirms.returned(b"id")
    assert (done.returned, waiting.returned) == (set(), {b"id"})


def test_a_closed_channel_expects_nothing_more() -> None:
    confirms = Confirms()
    done, waiting = expected(confirms, 1), expected(confirms, 1)
    confirms.confirm(1, multiple=False, refused=False)
    assert confirms.close() == [waiting]
    assert confirms.close() == []
    assert not confirms.expect(done, [Publication("", "key", Properties(), b"")])


def test_what_is_given_up_is_finished_once() -> None:
    confirms = Confirms()
    given_up, other = expected(confirms, 2), expected(confirms, 1)
    assert confirms.waiting() == [given_up, other]
    assert confirms.give_up(given_up)
    assert not confirms.give_up(given_up)
    assert confirms.confirm(3, multiple=True, refused=False) == [other]


def test_an_answer_out_of_order_is_no_burden_afterwards() -> None:
    confirms = Confirms()
    expected(confirms, 2)
    for number in (2, 1):
        confirms.confirm(number, multiple=False, refused=False)
    for number in range(3, 1_000):
        expected(confirms, 1)
        confirms.confirm(number, multiple=False, refused=False)
    last = expected(confirms, 2)
    assert confirms.confirm(1_000, multiple=True, refused=False) == []
    assert last.left == 1
    assert confirms.waiting() == [last]
    assert confirms.confirm(2**40, multiple=True, refused=False) == [last]
