"""Who reads the broker's socket: the loop that receives, or else the layer's own thread."""

import asyncio
from functools import partial
from typing import Any

import pytest

from channels_trunk.hub import doorwatch, linger
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer, works
from tests.integration.reading import (
    in_plain_thread,
    reader_of,
    reads_if_it_goes_on_sending,
    sleeps_however_close_rings_are,
    stays_awake_between_rings_that_are_close,
)


@pytest.mark.usefixtures("no_taking_over")
async def test_the_loop_that_receives_reads(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    waiting = asyncio.ensure_future(there.receive(channel))
    await eventually(lambda: reader_of(there) is asyncio.get_running_loop())
    await here.send(channel, HELLO)
    assert await waiting == HELLO
    await works(here, there)


async def test_a_loop_that_stands_still_holds_up_its_own_receivers_alone(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel, other = await there.new_channel(), await there.new_channel()
    waiting = asyncio.ensure_future(there.receive(channel))
    await eventually(lambda: reader_of(there) is asyncio.get_running_loop())

    def talk() -> Any:
        there.sync.send("jobs", HELLO)
        there.sync.group_add("group", other)
        here.sync.group_send("group", HELLO)
        here.sync.send(channel, HELLO)
        return there.sync.receive(other, timeout=20)

    in_plain_thread(talk)
    assert await waiting == HELLO
    assert await there.receive("jobs") == HELLO


async def test_a_blocking_call_in_the_thread_of_the_loop_that_reads_is_answered(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a signal's handler in asynchronous code: the loop cannot read the answer while its thread waits for it."""
    for name in ("_LOOK_OFTEN", "_LOOK_SELDOM"):
        monkeypatch.setattr(doorwatch, name, 60)
    here, there = make_layer(), make_layer(send_timeout=20)
    channel = await there.new_channel()
    waiting = asyncio.ensure_future(there.receive(channel))
    await eventually(lambda: reader_of(there) is asyncio.get_running_loop())
    other = await here.new_channel()
    for call in (
        partial(there.sync.send, other, HELLO),
        partial(there.sync.group_add, "group", channel),
        partial(there.sync.group_send, "group", {"type": "mine"}),
    ):
        call()
    assert await here.receive(other) == HELLO
    assert await waiting == {"type": "mine"}
    await works(here, there)


async def test_a_loop_that_has_ended_is_not_waited_for(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    await here.send(channel, HELLO)

    def live_and_end() -> bool:
        async def receive() -> None:
            assert await there.receive(channel) == HELLO
            here.sync.send(channel, HELLO)
            assert await there.receive(channel) == HELLO

        asyncio.run(receive())
        return True

    in_plain_thread(live_and_end)
    assert reader_of(there) is not asyncio.get_running_loop()
    for _ in range(20):
        await there.send("jobs", HELLO)
        await there.group_add("group", channel)
    await here.group_send("group", HELLO)
    assert await there.receive(channel) == HELLO


@pytest.mark.usefixtures("no_taking_over")
async def test_a_loop_that_joins_again_and_again_reads_the_answers_itself(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel, other = await there.new_channel(), await there.new_channel()
    await there.group_add("group.0", channel)
    assert reader_of(there) is None  # it may have been the only one
    for number in range(1, 5):
        await there.group_add(f"group.{number}", channel)
        assert reader_of(there) is asyncio.get_running_loop()
    await asyncio.gather(*(there.group_add(f"group.{number}", other) for number in range(100)))
    for number in (0, 4, 99):
        await here.group_send(f"group.{number}", {"type": "to", "number": number})
        assert (await there.receive(other))["number"] == number
    await works(here, there)


@pytest.mark.usefixtures("no_taking_over")
async def test_joins_leave_the_reading_to_another_loop_that_receives(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel, other = await there.new_channel(), await there.new_channel()
    waiting = asyncio.ensure_future(there.receive(channel))
    await eventually(lambda: reader_of(there) is asyncio.get_running_loop())

    def join_elsewhere() -> bool:
        async def join() -> None:
            for number in range(20):
                await there.group_add(f"group.{number}", other)

        asyncio.run(join())
        return True

    await in_thread(join_elsewhere)
    assert reader_of(there) is asyncio.get_running_loop()
    await here.group_send("group.19", HELLO)
    assert await there.receive(other) == HELLO
    await here.send(channel, HELLO)
    assert await waiting == HELLO


async def test_joins_of_loops_that_end_in_the_middle(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()

    def join_and_end(number: int) -> bool:
        async def join() -> None:
            for group in range(3):
                await there.group_add(f"loop.{number}.{group}", channel)
            last = asyncio.ensure_future(there.group_add(f"loop.{number}.last", channel))
            await asyncio.sleep(0)
            assert not last.done()

        asyncio.run(join())
        return True

    for number in range(20):
        await in_thread(partial(join_and_end, number))
    await there.group_add("loop.19.last", channel)
    for group in ("loop.0.0", "loop.19.2", "loop.19.last"):
        await here.group_send(group, {"type": group})
        assert await there.receive(channel) == {"type": group}
    await works(here, there)


async def test_with_inline_off_the_layers_own_thread_reads(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer(inline=False)
    channel = await there.new_channel()
    waiting = asyncio.ensure_future(there.receive(channel))
    await here.send(channel, HELLO)
    assert await waiting == HELLO
    assert reader_of(there) is None
    await works(here, there)


@pytest.mark.usefixtures("no_taking_over")
async def test_a_loop_that_goes_on_sending_reads_the_brokers_answers(make_layer: MakeLayer) -> None:
    here = make_layer()
    await here.send("jobs", HELLO)
    assert reader_of(here) is None  # it may have been the only one
    await reads_if_it_goes_on_sending(here)


@pytest.mark.usefixtures("no_taking_over")
async def test_a_loop_that_is_rung_often_stays_awake_for_the_next_if_it_may(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linger, "can_linger", lambda: True)
    # However slow the machine is.
    monkeypatch.setattr(linger, "BEHIND_A_SERVER", linger.BEHIND_A_SERVER._replace(soon=1.0))
    here, there, asleep = make_layer(), make_layer(), make_layer(busy_wait=False)
    await stays_awake_between_rings_that_are_close(here, there)
    await sleeps_however_close_rings_are(here, asleep)
