"""When messages are acknowledged."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from channels_trunk.testing import eventually
from channels_trunk.transports.rabbitmq.acks import Acks
from channels_trunk.transports.rabbitmq.channel import Channel


class Heard:
    """A channel that notes the acknowledgements."""

    def __init__(self) -> None:
        self.tags: list[int] = []

    def ack(self, tag: int, *, multiple: bool) -> None:
        assert multiple
        self.tags.append(tag)

    def in_loop(self, function: Callable[[], None]) -> None:
        function()


def channel() -> Any:
    return cast(Channel, Heard())


async def test_many_at_once_and_few_after_a_moment() -> None:
    acks, heard = Acks(prefetch_count=40), channel()
    acks.note(heard, 9, count=9)
    assert heard.tags == []
    acks.note(heard, 10, count=1)
    assert heard.tags == [10]
    acks.note(heard, 11, count=1)
    await eventually(lambda: heard.tags == [10, 11])


async def test_where_the_broker_sends_one_by_one_each_is_acknowledged_at_once() -> None:
    acks, heard = Acks(prefetch_count=1), channel()
    acks.note(heard, 1, count=1)
    assert heard.tags == [1]


async def test_a_new_connection_owes_nothing_for_the_old_one() -> None:
    acks, old, new = Acks(prefetch_count=40), channel(), channel()
    acks.note(old, 7, count=9)
    acks.note(new, 1, count=1)
    await eventually(lambda: new.tags == [1])
    assert old.tags == []


def test_the_loop_of_another_run_acknowledges_again() -> None:
    acks, old, new = Acks(prefetch_count=40), channel(), channel()

    async def ends_before_the_timer() -> None:
        acks.note(old, 1, count=1)

    async def goes_on() -> None:
        acks.note(new, 1, count=1)
        await eventually(lambda: new.tags == [1])

    asyncio.run(ends_before_the_timer())
    asyncio.run(goes_on())
