"""What the broker's confirms say of batches."""

import asyncio

from channels_trunk.transports.rabbitmq.publishing import Batch, Confirms, Publication
from channels_trunk.transports.rabbitmq.wire import Properties


def expected(confirms: Confirms, size: int) -> Batch:
    batch = Batch(size, asyncio.get_running_loop().create_future())
    confirms.expect(batch, [Publication("", "key", Properties(), b"")] * size)
    return batch


async def test_one_by_one_and_many_at_once() -> None:
    confirms = Confirms()
    first, second = expected(confirms, 3), expected(confirms, 2)
    confirms.confirm(2, multiple=False, refused=False)
    assert not first.done.done()
    confirms.confirm(4, multiple=True, refused=False)
    assert first.done.done()
    assert not second.done.done()
    confirms.confirm(5, multiple=False, refused=True)
    assert second.done.done()
    assert (first.refused, second.refused) == (set(), {1})


async def test_an_empty_batch_is_done() -> None:
    assert expected(Confirms(), 0).done.done()


async def test_what_is_returned_is_told_to_those_that_wait() -> None:
    confirms = Confirms()
    done, waiting = expected(confirms, 1), expected(confirms, 1)
    confirms.confirm(1, multiple=False, refused=False)
    confirms.returned(b"id")
    assert (done.returned, waiting.returned) == (set(), {b"id"})
    assert confirms.take_all() == [waiting]
    assert confirms.take_all() == []
