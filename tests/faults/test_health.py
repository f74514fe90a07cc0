"""How a layer says how it is: health(), counters, gaps and the gap event."""

import asyncio
import logging
import time
from functools import partial

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.health import State
from channels_trunk.testing import eventually
from channels_trunk.testing.transports import LoopbackServer

from .conftest import FaultyLayer, MakeLayer

HELLO = {"type": "hello"}


def is_state(layer: FaultyLayer, state: State) -> bool:
    return layer.health().state is state


def has_reconnected(layer: FaultyLayer, times: int) -> bool:
    return bool(layer.stats().reconnects_total == times)


async def test_words_from_closed_to_closed(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    assert is_state(here, State.CLOSED)
    opening = here.faults.stall("open")
    joining = asyncio.ensure_future(here.new_channel())
    await eventually(opening.entered.is_set)
    assert is_state(here, State.OPENING)
    opening.release()
    await joining
    assert is_state(here, State.OK)
    server.stop()
    await eventually(lambda: is_state(here, State.AWAY))
    await eventually(lambda: "not running" in here.health().detail)
    server.start()
    await eventually(lambda: is_state(here, State.OK))
    assert here.health().detail == ""
    await here.close()
    assert is_state(here, State.CLOSED)


async def test_detail_says_why_the_connection_was_lost(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    await here.new_channel()
    reopening = here.faults.stall("open")
    server.drop_connections()
    await eventually(reopening.entered.is_set)
    assert here.health().state is State.AWAY
    assert here.health().detail == "the loopback server cut the connection"
    reopening.release()


async def test_since_counts_from_the_change(make_layer: MakeLayer) -> None:
    here = make_layer()
    before = time.monotonic()
    await here.new_channel()
    await eventually(lambda: here.health().since_seconds > 0.05)
    assert here.health().since_seconds <= time.monotonic() - before
    before = time.monotonic()
    await here.close()
    assert here.health().since_seconds <= time.monotonic() - before


async def test_closing_is_not_said_to_be_away(make_layer: MakeLayer) -> None:
    here = make_layer()
    await here.new_channel()
    hold = here.faults.stall("close")
    closing = asyncio.ensure_future(here.close())
    await eventually(hold.entered.is_set)
    assert is_state(here, State.CLOSED)
    hold.release()
    await closing


async def test_loss_after_close_changes_nothing(make_layer: MakeLayer) -> None:
    here = make_layer()
    await here.new_channel()
    sink = here.faults.context.sink  # type: ignore[union-attr]
    await here.close()
    sink.lost(TransportUnavailable("late"))
    assert is_state(here, State.CLOSED)


async def test_reconnects_are_counted(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    await here.new_channel()
    assert here.stats().reconnects_total == 0
    for count in (1, 2):
        server.drop_connections(failing_opens=1)
        await eventually(partial(has_reconnected, here, count))
        await eventually(lambda: is_state(here, State.OK))


async def test_gap_is_counted_logged_and_told_to_members(
    make_layer: MakeLayer, server: LoopbackServer, caplog: pytest.LogCaptureFixture
) -> None:
    here = make_layer(gap_event="room.resync")
    member, loner = await here.new_channel(), await here.new_channel()
    await here.group_add("one", member)
    await here.group_add("two", member)
    waiting = asyncio.ensure_future(here.receive(member))
    with caplog.at_level(logging.WARNING, logger="channels_trunk"):
        server.lose_places()
        assert await waiting == {"type": "room.resync"}
    assert here.stats().gaps_total == 1
    assert "messages for this process may have been lost: the loopback server lost" in caplog.text
    for channel in (member, loner):
        await here.send(channel, HELLO)
        assert await here.receive(channel) == HELLO, "the event came twice, or to a channel without groups"


async def test_gap_without_gap_event_is_counted(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    member = await here.new_channel()
    await here.group_add("group", member)
    server.lose_places()
    await eventually(lambda: here.stats().gaps_total == 1)
    await here.send(member, HELLO)
    assert await here.receive(member) == HELLO


async def test_gap_is_told_when_groups_are_heard_again(make_layer: MakeLayer, server: LoopbackServer) -> None:
    """What is sent to the group after a consumer was told of the gap must reach it."""
    here, there = make_layer(gap_event="room.resync"), make_layer()
    member = await here.new_channel()
    await here.group_add("group", member)
    await there.new_channel()
    hearing = here.faults.stall("interest")
    server.lose_places()
    await eventually(hearing.entered.is_set)
    assert here.stats().gaps_total == 0
    hearing.release()
    assert await here.receive(member) == {"type": "room.resync"}
    await there.group_send("group", HELLO)
    assert await here.receive(member) == HELLO


async def test_membership_is_told_anew_to_an_engine_that_lost_it(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here, there = make_layer(), make_layer()
    member = await here.new_channel()
    await here.group_add("group", member)
    await there.new_channel()
    server.lose_places()
    await eventually(lambda: here.stats().gaps_total == there.stats().gaps_total == 1)
    await there.group_send("group", HELLO)
    assert await here.receive(member) == HELLO


async def test_failed_messages_are_counted(make_layer: MakeLayer) -> None:
    here = make_layer()
    await here.new_channel()
    here.faults.fail("publish", lambda: TransportUnavailable("made up"))
    with pytest.raises(TransportUnavailable, match="made up"):
        await here.send("jobs", HELLO)
    assert here.stats().failed_total == 1
    assert here.stats().sent_total == 0


async def test_frame_that_cannot_be_read_is_counted_and_skipped(
    make_layer: MakeLayer, server: LoopbackServer, prefix: str
) -> None:
    here = make_layer()
    channel = await here.new_channel()
    place = server._places[here.stats().node]
    place.frames.extend([b"", b"\xff\xff", b"\x01\x00\xc1"])
    place.connection.wake()  # type: ignore[union-attr]
    await eventually(lambda: here.stats().skipped_frames_total == 3)
    await make_layer().send(channel, HELLO)
    assert await here.receive(channel) == HELLO


async def test_an_engines_clock_is_gone_by(
    make_layer: MakeLayer, server: LoopbackServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits to be sent while the engine is away was made by this machine's, and expires when it should."""
    here, there = make_layer(), make_layer()
    sink, clock = here._hub.context.sink, here._hub.clock
    sink.engine_time(clock.wall() + 1)  # as an answer of a busy machine
    assert not caplog.messages
    server.stop()
    await eventually(lambda: is_state(here, State.AWAY) or here.health().state is State.CLOSED)
    sending = asyncio.ensure_future(here.send("jobs", HELLO))
    await eventually(lambda: here.stats().outbox_current == 1)
    for hours in (-5, 0):
        sink.engine_time(time.time() + hours * 3600)
        assert abs(clock.wall() - time.time() - hours * 3600) < 60
    there._hub.context.sink.engine_time(time.time())
    assert [message for message in caplog.messages if "clock is 18000" in message]
    server.start()
    await sending
    async with asyncio.timeout(20):
        assert await there.receive("jobs") == HELLO
