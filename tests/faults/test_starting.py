"""What a caller's thread has begun to publish, and what becomes of it when the engine does not answer."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.transports import LoopbackServer
from tests.faults.slow import SlowLayer
from tests.plugins.impatience import impatient

HELLO = {"type": "hello"}


@pytest.fixture
async def layers(prefix: str, server: LoopbackServer) -> Any:
    made = [SlowLayer(prefix=prefix, send_timeout=20.0) for _ in range(2)]
    yield made
    server.release()
    for layer in made:
        layer.transport.release_answers()
        await layer.close()


async def begun(layer: SlowLayer, channel: str) -> "asyncio.Task[None]":
    """A send() that is on its way, and not confirmed before the answers are released."""
    layer.transport.hold_answers()
    before = layer.transport.started_total
    sending = asyncio.create_task(layer.send(channel, HELLO))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert layer.transport.started_total == before + 1
    return sending


async def connected(here: SlowLayer, there: SlowLayer) -> str:
    channel = await there.new_channel()
    await here.new_channel()
    return channel


async def test_answer_that_never_comes(layers: list[SlowLayer], server: LoopbackServer) -> None:
    here, there = layers
    channel = await connected(here, there)
    with impatient(here, 1.0):
        sending = await begun(here, channel)
        server.hang()
        with pytest.raises(TransportUnavailable, match=r"did not answer publish\(\) within"):
            await sending
    server.release()
    here.transport.release_answers()
    await here.send(channel, HELLO)
    assert await there.receive(channel) == HELLO


async def test_answer_that_does_not_come_as_the_engine_takes_nothing(layers: list[SlowLayer]) -> None:
    """It was on its way well before the engine said so, and its time is over first."""
    here, there = layers
    channel = await connected(here, there)
    with impatient(here, 1.0):
        sending = await begun(here, channel)
        here._hub.context.sink.stalled("its memory is full")
        with pytest.raises(TransportUnavailable, match="its memory is full"):
            await sending
    here.transport.release_answers()
    here._hub.context.sink.stalled("")
    await here.send(channel, {"type": "behind"})
    assert [(await there.receive(channel))["type"] for _ in range(2)] == ["hello", "behind"]
    assert here.stats().reconnects_total == 0


async def test_what_waits_behind_an_answer_that_never_came(layers: list[SlowLayer], server: LoopbackServer) -> None:
    """It is sent as soon as the engine takes something, though nobody sends anything else."""
    here, there = layers
    channel = await connected(here, there)
    sending = await begun(here, channel)
    behind = asyncio.create_task(here.send(channel, {"type": "behind"}))
    server.hang()
    here._hub.context.sink.stalled("its memory is full")
    started = here._hub.publisher._started
    assert started is not None
    started.deadline = 0.0
    with pytest.raises(TransportUnavailable, match="its memory is full"):
        await sending
    server.release()
    here.transport.release_answers()
    here._hub.context.sink.stalled("")
    await behind
    assert [(await there.receive(channel))["type"] for _ in range(2)] == ["hello", "behind"]


async def test_connection_that_is_lost_before_the_answer(layers: list[SlowLayer], server: LoopbackServer) -> None:
    here, there = layers
    channel = await connected(here, there)
    sending = await begun(here, channel)
    behind = asyncio.create_task(here.send(channel, {"type": "behind"}))
    await asyncio.sleep(0)
    server.drop_connections()
    here.transport.release_answers()
    with pytest.raises(TransportUnavailable):
        await sending
    await behind
    assert [(await there.receive(channel))["type"] for _ in range(2)] == ["hello", "behind"]


async def test_close_waits_for_the_answer(layers: list[SlowLayer]) -> None:
    here, there = layers
    channel = await connected(here, there)
    sending = await begun(here, channel)
    closing = asyncio.create_task(here.close())
    await asyncio.sleep(0)
    here.transport.release_answers()
    await closing
    await sending
    assert await there.receive(channel) == HELLO


async def test_what_comes_meanwhile_goes_behind_it(layers: list[SlowLayer]) -> None:
    here, there = layers
    channel = await connected(here, there)
    sending = [await begun(here, channel)]
    sending += [asyncio.create_task(here.send(channel, {"type": "n", "n": n})) for n in range(20)]
    await asyncio.sleep(0)
    thread = threading.Thread(target=here.sync.send, args=(channel, {"type": "last"}), daemon=True)
    thread.start()
    await eventually(lambda: len(here._hub.publisher) == 21)
    here.transport.release_answers()
    await asyncio.gather(*sending)
    got = [await there.receive(channel) for _ in range(22)]
    assert got[0] == HELLO
    assert [message["n"] for message in got if message["type"] == "n"] == list(range(20))
    await eventually(lambda: not thread.is_alive())


@pytest.mark.parametrize("blocking", [False, True], ids=["task", "thread"])
async def test_a_start_that_is_interrupted_sends_nothing_twice(
    layers: list[SlowLayer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, blocking: bool
) -> None:
    """A signal's handler may raise anywhere, also when the batch is on its way."""
    here, there = layers
    channel = await connected(here, there)
    start = here.transport.start

    def interrupted(batch: Sequence[Envelope], done: Callable[[Sequence[int] | None], None]) -> bool:
        assert start(batch, done)
        monkeypatch.undo()
        raise TimeoutError("time is up")

    monkeypatch.setattr(here.transport, "start", interrupted)
    here.transport.hold_answers()
    with caplog.at_level(logging.ERROR, "channels_trunk"):
        if blocking:
            with pytest.raises(TimeoutError, match="time is up"):
                await in_thread(lambda: here.sync.send(channel, HELLO))
        else:
            with pytest.raises(TransportError, match="time is up"):
                await here.send(channel, HELLO)
    assert "the transport failed in a way it should not" in caplog.text
    here.transport.release_answers()
    await here.send(channel, {"type": "behind"})
    assert [(await there.receive(channel))["type"] for _ in range(2)] == ["hello", "behind"]


async def test_the_loop_rests_while_the_engine_is_away(
    layers: list[SlowLayer], monkeypatch: pytest.MonkeyPatch, server: LoopbackServer
) -> None:
    here, there = layers
    channel = await connected(here, there)
    publisher = here._hub.publisher
    ticks: list[object] = []
    tick = publisher._tick

    def counted(loop: asyncio.AbstractEventLoop) -> None:
        ticks.append(loop)
        tick(loop)

    monkeypatch.setattr(publisher, "_tick", counted)
    sending = [asyncio.create_task(here.send(channel, HELLO)) for _ in range(2)]
    await asyncio.sleep(0)
    # Both wait for the end of this tick, and the engine goes before it comes.
    server.stop()
    here._hub.context.sink.lost(TransportUnavailable("cut"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert 1 <= len(ticks) <= 2
    server.start()
    await asyncio.gather(*sending)
    assert [await there.receive(channel) for _ in range(2)] == [HELLO, HELLO]


async def test_without_inline_the_hub_publishes_it_all(prefix: str, server: LoopbackServer) -> None:
    here, there = SlowLayer(prefix=prefix, inline=False), SlowLayer(prefix=prefix, inline=False)
    channel = await connected(here, there)
    await here.send(channel, HELLO)
    assert await there.receive(channel) == HELLO
    assert here.transport.started_total == 0
    await here.close()
    await there.close()
