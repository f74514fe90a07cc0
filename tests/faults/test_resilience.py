"""Guarantee 13: the option `resilience` makes the layer a bad network."""

import asyncio
import time

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.health import State
from channels_trunk.testing import eventually

from .conftest import MakeLayer

HELLO = {"type": "hello"}
MARK = {"type": "mark"}


async def test_drop_all(make_layer: MakeLayer) -> None:
    bad, good = make_layer(resilience={"drop": 1}), make_layer()
    channel = await good.new_channel()
    await good.group_add("group", channel)
    await bad.send(channel, HELLO)
    await bad.group_send("group", HELLO)
    bad.sync.send(channel, HELLO)
    await good.send(channel, MARK)
    assert await good.receive(channel) == MARK
    assert bad.stats().dropped_resilience_total == 3


async def test_dropped_message_is_checked_all_the_same(make_layer: MakeLayer) -> None:
    bad = make_layer(resilience={"drop": 1})
    with pytest.raises(TypeError):
        await bad.send("bad name", HELLO)
    with pytest.raises(TypeError):
        await bad.group_send("bad name", HELLO)
    with pytest.raises(TypeError):
        await bad.send("jobs", {"type": object()})


async def test_delay_holds_the_sender_and_nobody_else(make_layer: MakeLayer) -> None:
    bad, good = make_layer(resilience={"delay": 3600}), make_layer()
    channel = await good.new_channel()
    held = asyncio.ensure_future(bad.send(channel, HELLO))
    await good.send(channel, MARK)
    assert await good.receive(channel) == MARK
    assert not held.done()
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)


async def test_delayed_messages_arrive(make_layer: MakeLayer) -> None:
    bad, good = make_layer(resilience={"delay": 0.02}), make_layer()
    channel = await good.new_channel()
    before = time.monotonic()
    for number in range(10):
        await bad.send(channel, {"type": "n", "n": number})
    # Ten delays, each evenly spread up to 20 ms: the chance that they sum up to less than 10 ms is below 1e-9.
    assert time.monotonic() - before > 0.01
    assert [(await good.receive(channel))["n"] for _ in range(10)] == list(range(10))


async def test_disconnect_is_survived(make_layer: MakeLayer) -> None:
    bad, good = make_layer(resilience={"disconnect": 0.3}, capacity=1000), make_layer(capacity=1000)
    channel = await good.new_channel()
    await bad.new_channel()
    sent: list[int] = []
    for number in range(60):
        try:
            await bad.send(channel, {"type": "n", "n": number})
        except TransportUnavailable:
            continue
        sent.append(number)
    received = [(await good.receive(channel))["n"]]
    while received[-1] < sent[-1]:
        received.append((await good.receive(channel))["n"])
    assert received == sorted(set(received))
    assert set(sent) <= set(received)
    await eventually(lambda: bad.stats().reconnects_total >= 1)


async def test_disconnect_of_a_layer_that_is_closed(make_layer: MakeLayer) -> None:
    bad = make_layer(resilience={"disconnect": 1})
    mine = bad._hub.new_channel("mine")
    await bad.send(mine, HELLO)
    assert bad.health().state is State.CLOSED
    assert await bad.receive(mine) == HELLO
