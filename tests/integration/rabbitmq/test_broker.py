"""The broker is stopped, restarted, killed, or short of memory."""

import asyncio
from typing import Any

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.hub import stock
from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from tests.integration.claimed_ahead import claims_rest, held, take, work_until_ahead
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer, is_away, is_ok, works
from tests.plugins.servers import RabbitServer

GAP = {"type": "gap.said"}
JOBS = 40
# Longer than a loaded machine takes to start a broker.
LASTING = {"expiry": 600}


async def member(layer: RabbitMQChannelLayer) -> str:
    """A channel that is told of gaps."""
    channel = await layer.new_channel()
    await layer.group_add("members", channel)
    return channel


async def test_a_broker_that_was_stopped_and_started_says_a_gap(make_layer: MakeLayer, broker: RabbitServer) -> None:
    here, there = make_layer(**LASTING), make_layer(gap_event="gap.said", **LASTING)
    channel = await member(there)
    await here.send("jobs", HELLO)
    waiting = asyncio.ensure_future(there.receive(channel))
    await in_thread(broker.stop_app)
    await is_away(here, there)
    await in_thread(broker.start_app)
    async with asyncio.timeout(60):
        assert await waiting == GAP
    assert there.stats().gaps_total == 1
    await here.group_send("members", HELLO)
    assert await there.receive(channel) == HELLO
    # A normal channel's messages are on the broker's disk.
    assert await there.receive("jobs") == HELLO
    await works(here, there)


async def test_a_broker_that_was_killed(make_layer: MakeLayer, broker: RabbitServer) -> None:
    here, there = make_layer(send_timeout=60, **LASTING), make_layer(gap_event="gap.said", **LASTING)
    channel = await member(there)
    await here.send("jobs", HELLO)
    broker.kill()
    await is_away(here, there)
    sending = asyncio.ensure_future(here.send(channel, HELLO))
    await in_thread(broker.start)
    broker.process.belongs_to_session()
    async with asyncio.timeout(60):
        assert await there.receive(channel) == GAP
        assert await there.receive("jobs") == HELLO
    await asyncio.gather(sending, return_exceptions=True)
    await is_ok(here, there)
    await works(here, there)


async def test_a_broker_short_of_memory_is_said_and_holds_no_reader_up(
    make_layer: MakeLayer, broker: RabbitServer
) -> None:
    here, there = make_layer(send_timeout=2), make_layer()
    channel = await there.new_channel()
    await here.send(channel, {"type": "before"})
    await in_thread(lambda: broker.alarm(True))
    try:
        with pytest.raises(TransportUnavailable, match="takes no messages now"):
            await here.send(channel, {"type": "lost or late"})
        assert here.health().state == "ok"
        assert "takes no messages now" in here.health().detail
        with pytest.raises(TransportUnavailable, match=r"send_timeout=2 s: RabbitMQ takes no messages now"):
            await here.send(channel, {"type": "never sent"})
        # Reading goes on: that is what frees the broker's memory.
        assert await there.receive(channel) == {"type": "before"}
        waiting = asyncio.ensure_future(here.send(channel, {"type": "after"}))
    finally:
        await in_thread(lambda: broker.alarm(False))
    await asyncio.gather(waiting, return_exceptions=True)
    await eventually(lambda: here.health().detail == "", within=20)
    await here.send(channel, {"type": "last"})
    got: list[dict[str, Any]] = []
    while not got or got[-1] != {"type": "last"}:
        got.append(await asyncio.wait_for(there.receive(channel), 60))
    assert {"type": "never sent"} not in got
    assert here.stats().reconnects_total == 0


async def test_what_a_broker_short_of_memory_does_not_take_back_is_there_once(
    make_layer: MakeLayer, broker: RabbitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, worker = make_layer(capacity=JOBS), make_layer(capacity=JOBS, send_timeout=2)
    for number in range(JOBS):
        await source.send("jobs", {"type": "job", "number": number})
    monkeypatch.setattr(stock, "BACK_AFTER", 1000.0)
    got = await work_until_ahead(worker)
    await in_thread(lambda: broker.alarm(True))
    try:
        with pytest.raises(TransportUnavailable, match="takes no messages now"):
            await worker.send("other", HELLO)
        # What was claimed ahead is to go back, and cannot: meanwhile as much time passes as for two attempts.
        monkeypatch.setattr(stock, "BACK_AFTER", 0.0)
        await eventually(lambda: held(worker) == 0, within=10)
        for _ in range(2):
            with pytest.raises(TransportUnavailable, match="takes no messages now"):
                await worker.send("other", HELLO)
    finally:
        await in_thread(lambda: broker.alarm(False))
    await eventually(lambda: claims_rest(worker), within=20)
    assert got + await take(source, JOBS - len(got)) == list(range(JOBS))
    assert worker.stats().gaps_total == 0


async def test_a_broker_with_a_full_disk_is_said(make_layer: MakeLayer, broker: RabbitServer) -> None:
    here, there = make_layer(send_timeout=2), make_layer()
    channel = await there.new_channel()
    await here.send(channel, HELLO)
    await in_thread(lambda: broker.disk_alarm(True))
    try:
        with pytest.raises(TransportUnavailable, match="takes no messages now"):
            await here.send(channel, {"type": "lost or late"})
        assert "low on disk" in here.health().detail
        assert await there.receive(channel) == HELLO
    finally:
        await in_thread(lambda: broker.disk_alarm(False))
    await eventually(lambda: here.health().detail == "", within=20)
    await works(here, there)
