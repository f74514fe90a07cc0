"""Guarantee 3: receive() waits while the engine is away, send() waits up to `send_timeout`, and the hub comes back."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.health import State
from channels_trunk.testing import eventually
from channels_trunk.testing.transports import LoopbackServer
from tests.plugins.impatience import impatient

from .conftest import MakeLayer

HELLO = {"type": "hello"}
MARK = {"type": "mark"}
SOON = 0.2


def unavailable() -> TransportUnavailable:
    return TransportUnavailable("made up")


async def test_receive_waits_and_gets_what_comes_afterwards(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here, there = make_layer(), make_layer()
    channel = await here.new_channel()
    waiting = [asyncio.ensure_future(here.receive(name)) for name in (channel, "jobs")]
    await there.new_channel()
    server.stop()
    await eventually(lambda: here.health().state is State.AWAY)
    assert not any(task.done() for task in waiting)
    server.start()
    await there.send(channel, HELLO)
    await there.send("jobs", HELLO)
    assert await asyncio.gather(*waiting) == [HELLO, HELLO]


async def test_receive_before_the_engine_was_ever_there(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    server.stop()
    waiting = asyncio.ensure_future(here.receive("jobs"))
    await eventually(lambda: here.health().state is State.AWAY)
    server.start()
    await here.send("jobs", HELLO)
    assert await waiting == HELLO


async def test_send_raises_after_send_timeout_and_is_not_sent_later(
    make_layer: MakeLayer, server: LoopbackServer
) -> None:
    here, there = make_layer(send_timeout=30.0), make_layer()
    channel = await there.new_channel()
    await here.new_channel()
    server.stop()
    await eventually(lambda: here.health().state is State.AWAY)
    before = time.monotonic()
    with impatient(here, SOON):
        for attempt in (here.send(channel, HELLO), here.send("jobs", HELLO), here.group_send("group", HELLO)):
            with pytest.raises(TransportUnavailable, match=r"send_timeout=0\.2 s: the loopback server"):
                await attempt
    assert 3 * SOON <= time.monotonic() - before < 30.0
    server.start()
    await eventually(lambda: here.health().state is State.OK)
    for name in (channel, "jobs"):
        await here.send(name, MARK)
        assert await there.receive(name) == MARK


async def test_send_goes_through_if_the_engine_comes_back_in_time(
    make_layer: MakeLayer, server: LoopbackServer
) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    server.stop()
    sends = [asyncio.ensure_future(here.send(channel, {"type": "n", "n": number})) for number in range(20)]
    await eventually(lambda: here.health().state is State.AWAY)
    server.start()
    await asyncio.gather(*sends)
    assert [(await there.receive(channel))["n"] for _ in range(20)] == list(range(20))


@pytest.mark.parametrize(
    "call", ["new_channel", "group_add", "group_add_normal", "group_add_other", "flush", "peers", "clean_expired"]
)
async def test_other_calls_raise_after_send_timeout(make_layer: MakeLayer, server: LoopbackServer, call: str) -> None:
    here, there = make_layer(send_timeout=SOON), make_layer()
    mine, theirs = here._hub.new_channel("mine"), await there.new_channel()
    server.stop()
    attempts: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "new_channel": lambda: here.new_channel(),
        "group_add": lambda: here.group_add("group", mine),
        "group_add_normal": lambda: here.group_add("group", "jobs"),
        "group_add_other": lambda: here.group_add("group", theirs),
        "flush": lambda: here.flush(),
        "peers": lambda: here.peers(),
        "clean_expired": lambda: here.clean_expired(),
    }
    with pytest.raises(TransportUnavailable, match=r"send_timeout=0\.2 s"):
        await asyncio.wait_for(attempts[call](), 20)
    io = here._hub._io
    assert io is not None
    # Nothing is left that waits for the engine, but who opens it.
    await eventually(lambda: len(io._tasks) == 1)


async def test_what_the_engine_took_before_the_loss_is_delivered_after_it(
    make_layer: MakeLayer, server: LoopbackServer
) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    await here.new_channel()
    opening = there.faults.stall("open")
    there.faults.context.sink.lost(unavailable())  # type: ignore[union-attr]
    await eventually(opening.entered.is_set)
    for number in range(5):
        await here.send(channel, {"type": "n", "n": number})
    opening.release()
    assert [(await there.receive(channel))["n"] for _ in range(5)] == list(range(5))


async def test_memberships_hold_across_the_loss(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    await there.group_add("group", channel)
    await there.group_add("group", "jobs")
    await here.new_channel()
    server.drop_connections(failing_opens=2)
    await eventually(lambda: there.stats().reconnects_total + here.stats().reconnects_total == 2)
    await here.group_send("group", HELLO)
    assert await there.receive(channel) == HELLO
    assert await there.receive("jobs") == HELLO


async def test_flapping_disorders_and_repeats_nothing(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here, there = make_layer(capacity=1000), make_layer(capacity=1000)
    channel = await there.new_channel()
    sent: list[int] = []
    for number in range(200):
        if number % 10 == 0:
            server.drop_after(7)
        try:
            await here.send(channel, {"type": "n", "n": number})
        except TransportUnavailable:
            continue
        sent.append(number)
    server.drop_after(None)
    await here.send(channel, MARK)
    received: list[int] = []
    while (message := await there.receive(channel)) != MARK:
        received.append(message["n"])
    assert received == sorted(set(received))
    assert set(sent) <= set(received), "a message that was accepted is lost"
    assert here.stats().reconnects_total > 3


# --- an engine that does not answer


async def test_open_that_hangs_does_not_hold_senders(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer(send_timeout=30.0)
    server.hang()
    with impatient(here, SOON), pytest.raises(TransportUnavailable, match=r"send_timeout=0\.2 s"):
        await asyncio.wait_for(here.send("jobs", HELLO), 20)
    server.release()
    await here.send("jobs", MARK)
    assert await here.receive("jobs") == MARK


async def test_publish_that_hangs_does_not_hold_senders(make_layer: MakeLayer) -> None:
    here = make_layer(send_timeout=30.0)
    await here.new_channel()
    # The second may have a connection before its time is over: that hangs, too.
    hold = here.faults.stall("publish", times=2)
    with impatient(here, 1.0):
        first = asyncio.ensure_future(here.send("jobs", HELLO))
        await eventually(hold.entered.is_set)
        behind = asyncio.ensure_future(here.send("jobs", HELLO))
        for attempt in (first, behind):
            with pytest.raises(TransportUnavailable):
                await asyncio.wait_for(attempt, 20)
    here.faults.heal()
    hold.release()
    await here.send("jobs", MARK)
    assert await here.receive("jobs") == MARK, "a message is sent although its sender was told that it is not"


async def test_maintenance_that_hangs_does_not_hold_the_reopening(
    make_layer: MakeLayer, server: LoopbackServer
) -> None:
    here = make_layer()
    hold = here.faults.stall("maintain")
    await here.new_channel()
    await eventually(hold.entered.is_set)
    server.drop_connections()
    await eventually(lambda: here.stats().reconnects_total == 1)
    hold.release()
    await here.send("jobs", MARK)
    assert await here.receive("jobs") == MARK


async def test_claim_that_hangs_does_not_hold_the_next_connection(
    make_layer: MakeLayer, server: LoopbackServer
) -> None:
    here = make_layer()
    await here.send("jobs", HELLO)
    hold = here.faults.stall("claim")
    waiting = asyncio.ensure_future(here.receive("jobs"))
    await eventually(hold.entered.is_set)
    server.drop_connections()
    async with asyncio.timeout(20):
        assert await waiting == HELLO
    hold.release()


async def test_interest_that_hangs_does_not_hold_the_next_connection(
    make_layer: MakeLayer, server: LoopbackServer
) -> None:
    here, there = make_layer(), make_layer()
    channel = await here.new_channel()
    hold = here.faults.stall("interest")
    adding = asyncio.ensure_future(here.group_add("group", channel))
    await eventually(hold.entered.is_set)
    server.drop_connections()
    async with asyncio.timeout(20):
        await adding
    await there.group_send("group", HELLO)
    assert await here.receive(channel) == HELLO
    hold.release()


# --- connections that fail at bad moments


async def test_connection_lost_before_interest_is_told(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here, there = make_layer(), make_layer()
    channel = await here.new_channel()
    await here.group_add("group", channel)
    waiting = asyncio.ensure_future(here.receive(channel))
    here.faults.fail("interest", unavailable, times=2)
    server.drop_connections()
    await eventually(lambda: here.stats().reconnects_total == 1)
    await there.group_send("group", HELLO)
    assert await waiting == HELLO


async def test_connection_lost_while_it_is_being_opened(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    opening = here.faults.stall("open")
    joining = asyncio.ensure_future(here.new_channel())
    await eventually(opening.entered.is_set)
    # The transport reports it while open() is under way, and open() succeeds nevertheless.
    here.faults.context.sink.lost(unavailable())  # type: ignore[union-attr]
    opening.release()
    await joining
    await eventually(lambda: here.faults.calls["open"] == 2)
    await eventually(lambda: here.health().state is State.OK)


async def test_group_add_outlives_a_loss(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    channel = await here.new_channel()
    for method, member in (("interest", channel), ("bind", "jobs")):
        hold = here.faults.stall(method)
        adding = asyncio.ensure_future(here.group_add("group", member))
        await eventually(hold.entered.is_set)
        server.drop_connections()
        hold.release()
        await adding
    await here.group_send("group", HELLO)
    assert await here.receive(channel) == HELLO
    assert await here.receive("jobs") == HELLO


@pytest.mark.parametrize("method", ["open", "maintain"])
async def test_reopening_backs_off(make_layer: MakeLayer, method: str) -> None:
    here = make_layer()
    here.faults.fail(method, unavailable, times=5)
    before = time.monotonic()
    waiting = asyncio.ensure_future(here.receive("jobs"))
    await eventually(lambda: here.faults.calls["open"] == 5)
    # At the least half of 50, 100, 200 and 400 ms.
    assert time.monotonic() - before >= 0.375
    here.faults.heal()
    await here.send("jobs", HELLO)
    assert await waiting == HELLO


# --- errors that a transport should not raise


async def test_publish_that_fails_unexpectedly_is_told_to_the_sender(make_layer: MakeLayer) -> None:
    here = make_layer()
    await here.new_channel()
    here.faults.fail("publish", lambda: ValueError("a bug"))
    async with asyncio.timeout(20):
        with pytest.raises(TransportError, match="ValueError: a bug"):
            await here.send("jobs", HELLO)
    await here.send("jobs", MARK)
    assert await here.receive("jobs") == MARK


@pytest.mark.parametrize("method", ["maintain", "claim", "watch"])
async def test_other_unexpected_failures_stop_nothing(make_layer: MakeLayer, method: str) -> None:
    here = make_layer()
    here.faults.fail(method, lambda: ValueError("a bug"))
    waiting = asyncio.ensure_future(here.receive("jobs"))
    await eventually(lambda: here.faults.calls[method] >= 1)
    await here.send("jobs", HELLO)
    async with asyncio.timeout(20):
        assert await waiting == HELLO


async def test_nothing_is_published_while_the_connection_is_lost(make_layer: MakeLayer) -> None:
    """What waits behind a batch that failed with its connection waits for the next connection."""
    here = make_layer(capacity=1000, send_timeout=30.0)
    opening = here.faults.stall("open")
    sends = [asyncio.ensure_future(here.send("jobs", {"type": "n", "n": number})) for number in range(501)]
    await eventually(opening.entered.is_set)
    await eventually(lambda: here.stats().outbox_current == 501, within=20)

    def lose() -> TransportUnavailable:
        here.faults.context.sink.lost(unavailable())  # type: ignore[union-attr]
        return unavailable()

    here.faults.fail("publish", lose, times=1)
    opening.release()
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    # A batch holds 500.
    assert [type(outcome) for outcome in outcomes] == [TransportUnavailable] * 500 + [type(None)]
    assert await here.receive("jobs") == {"type": "n", "n": 500}
    assert here.stats().failed_total == 500
