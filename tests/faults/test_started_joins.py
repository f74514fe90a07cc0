"""Joins that a caller's thread has asked the engine for, and what becomes of them when it does not answer."""

import asyncio
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.hub import joining as joining_module
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.transports import LoopbackServer
from channels_trunk.transports.base import Transport
from tests.faults.slow import SlowLayer, SlowTransport
from tests.plugins.impatience import impatient

HELLO = {"type": "hello"}


class NotedTransport(SlowTransport):
    """Counts what the hub asks for, and breaks when it is told to."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.interests = 0
        self.largest = 0
        self.answers_at_once = False
        self.breaks = False

    def start_hearing(self, groups: Collection[str], done: Callable[[bool], None]) -> bool:
        if self.breaks:
            raise RuntimeError("broken")
        self.largest = max(self.largest, len(groups))
        if self.answers_at_once:
            done(True)
            return True
        return super().start_hearing(groups, done)

    async def hear(self, groups: frozenset[str]) -> None:
        self.interests += 1
        await super().hear(groups)


class NotedLayer(SlowLayer):
    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return NotedTransport(values["prefix"])

    @property
    def transport(self) -> NotedTransport:
        return cast(NotedTransport, self._hub.transport)


@pytest.fixture
async def layers(prefix: str, server: LoopbackServer) -> Any:
    made = [NotedLayer(prefix=prefix, send_timeout=20.0) for _ in range(2)]
    yield made
    server.release()
    for layer in made:
        layer.transport.release_answers()
        await layer.close()


async def begun(layer: NotedLayer, channel: str, group: str = "group") -> "asyncio.Task[None]":
    """A group_add() that is on its way, and not answered before the answers are released."""
    layer.transport.hold_answers()
    before = layer.transport.asked_total
    joining = asyncio.create_task(layer.group_add(group, channel))
    await asyncio.sleep(0)
    assert layer.transport.asked_total == before + 1
    return joining


async def begun_behind(layer: NotedLayer, channel: str, groups: Sequence[str]) -> "list[asyncio.Task[None]]":
    """As begun(), and joins of these groups behind it, one turn of the loop later."""
    joining = [await begun(layer, channel)]
    joining += [asyncio.create_task(layer.group_add(group, channel)) for group in groups]
    await asyncio.sleep(0)
    return joining


async def reaches(here: NotedLayer, there: NotedLayer, channel: str, group: str = "group") -> None:
    await here.group_send(group, HELLO)
    async with asyncio.timeout(20):
        assert await there.receive(channel) == HELLO


async def test_joins_behind_one_another_share_the_next_questions(layers: list[NotedLayer]) -> None:
    here, there = layers
    channel = await there.new_channel()
    joining = await begun_behind(there, channel, [f"g{number}" for number in range(50)])
    # One, and then sixteen; the others wait.
    assert there.transport.asked_total == 2
    there.transport.release_answers()
    await asyncio.gather(*joining)
    assert there.transport.asked_total + there.transport.interests <= 12
    for group in ("group", "g0", "g49"):
        await reaches(here, there, channel, group)


async def test_few_that_come_while_others_are_asked_for_wait_for_more(layers: list[NotedLayer]) -> None:
    here, there = layers
    channel = await there.new_channel()
    joining = await begun_behind(there, channel, [f"g{number}" for number in range(7)])
    assert there.transport.asked_total == 1
    there.transport.release_answers()
    await asyncio.gather(*joining)
    assert there.transport.asked_total == 2
    await reaches(here, there, channel, "g6")


async def test_no_question_is_about_very_many(layers: list[NotedLayer]) -> None:
    """To write it would hold the loop."""
    here, there = layers
    channel = await there.new_channel()
    joining = await begun_behind(there, channel, [f"g{number}" for number in range(4_000)])
    there.transport.release_answers()
    await asyncio.gather(*joining)
    assert there.transport.largest <= 500
    await reaches(here, there, channel, "g3999")


async def test_very_many_join_a_group_that_is_heard_meanwhile(
    layers: list[NotedLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question but the first is answered in place."""
    monkeypatch.setattr(joining_module, "_MOST_AT_ONCE", 16)
    _, there = layers
    channel = await there.new_channel()
    joining = await begun_behind(there, channel, ["group"] * 16_000)
    there.transport.answers_at_once = True
    there.transport.release_answers()
    await asyncio.gather(*joining)


async def test_a_question_that_fails_is_no_matter_for_those_who_were_answered(layers: list[NotedLayer]) -> None:
    here, there = layers
    channel = await there.new_channel()
    joining = await begun_behind(there, channel, [f"g{number}" for number in range(3)])
    there.transport.breaks = True
    there.transport.release_answers()
    async with asyncio.timeout(20):
        await asyncio.gather(*joining)
    there.transport.breaks = False
    for group in ("group", "g2"):
        await reaches(here, there, channel, group)


async def test_two_questions_that_are_lost_with_their_connection(
    layers: list[NotedLayer], server: LoopbackServer
) -> None:
    """Each join has its own time, in whatever order they come to wait for the next connection."""
    _, there = layers
    channel = await there.new_channel()
    with impatient(there, 1.0):
        joining = [await begun(there, channel)]
        for number in range(17):
            joining.append(asyncio.create_task(there.group_add(f"g{number}", channel)))
            await asyncio.sleep(0.004)
        assert there.transport.asked_total == 2
        server.stop()
        there.transport.release_answers()
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*joining, return_exceptions=True)
    assert all(isinstance(outcome, TransportUnavailable) for outcome in outcomes)
    server.start()


async def test_answer_that_never_comes(layers: list[NotedLayer], server: LoopbackServer) -> None:
    here, there = layers
    channel = await there.new_channel()
    with impatient(there, 0.5):
        joining = await begun(there, channel)
        behind = asyncio.create_task(there.group_add("behind", channel))
        server.hang()
        for each in (joining, behind):
            with pytest.raises(TransportUnavailable, match=r"within send_timeout=0\.5 s"):
                await each
    server.release()
    there.transport.release_answers()
    await there.group_add("group", channel)
    await there.group_add("behind", channel)
    await reaches(here, there, channel)
    await reaches(here, there, channel, "behind")


async def test_connection_that_is_lost_before_the_answer(layers: list[NotedLayer], server: LoopbackServer) -> None:
    here, there = layers
    channel = await there.new_channel()
    joining = await begun(there, channel)
    behind = asyncio.create_task(there.group_add("behind", channel))
    server.drop_connections()
    there.transport.release_answers()
    await asyncio.gather(joining, behind)
    await reaches(here, there, channel)
    await reaches(here, there, channel, "behind")


async def test_layer_that_is_closed_before_the_answer(layers: list[NotedLayer], server: LoopbackServer) -> None:
    here, there = layers
    channel = await there.new_channel()
    await here.new_channel()
    joining = await begun(there, channel)
    server.hang()
    await there.close()
    server.release()
    there.transport.release_answers()
    with pytest.raises(TransportUnavailable, match="closed"):
        await joining
    await there.group_add("group", channel)
    await reaches(here, there, channel)


async def test_join_that_is_cancelled_before_the_answer(layers: list[NotedLayer]) -> None:
    here, there = layers
    channel = await there.new_channel()
    joining = await begun(there, channel)
    joining.cancel()
    await asyncio.wait({joining})
    there.transport.release_answers()
    await there.group_add("group", channel)
    assert there.transport.asked_total <= 2
    await reaches(here, there, channel)


async def test_loop_that_is_closed_before_the_answer(layers: list[NotedLayer]) -> None:
    here, there = layers
    channel = await there.new_channel()

    def join_and_stop() -> None:
        loop = asyncio.new_event_loop()
        joining = loop.create_task(there.group_add("group", channel))
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert not joining.done()
        joining.cancel()
        joining._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    await in_thread(join_and_stop)
    await there.group_add("group", channel)
    await there.group_add("other", channel)
    await reaches(here, there, channel)
    await reaches(here, there, channel, "other")


async def test_transport_that_fails_in_a_way_it_should_not(layers: list[NotedLayer]) -> None:
    here, there = layers
    channel = await there.new_channel()
    there.transport.breaks = True
    with pytest.raises(RuntimeError, match="broken"):
        await there.group_add("group", channel)
    there.transport.breaks = False
    await there.group_add("group", channel)
    await reaches(here, there, channel)


async def test_what_was_left_is_not_heard_any_more(layers: list[NotedLayer], server: LoopbackServer) -> None:
    """The hub's own knowledge of what the engine was told does not hold what callers told it."""
    _, there = layers
    channel = await there.new_channel()
    await there.group_add("group", channel)
    await there.group_discard("group", channel)
    there._hub.on_io(there._hub.sweep)
    await eventually(lambda: server._places[there.stats().node].groups == frozenset())
    assert not there._hub.driver.hears("group")


@pytest.mark.parametrize("seconds", [1.0])
async def test_joins_and_leaves_while_the_hub_sweeps(layers: list[NotedLayer], seconds: float) -> None:
    """Whoever has joined is reached, though the hub asks the engine to forget groups all the time."""
    here, there = layers
    channel = await there.new_channel()
    over = threading.Event()

    def sweep() -> None:
        while not over.is_set():
            there._hub.on_io(there._hub.sweep)
            over.wait(0.005)

    sweeping = threading.Thread(target=sweep, daemon=True)
    sweeping.start()
    loop = asyncio.get_running_loop()
    end, rounds = loop.time() + seconds, 0
    try:
        while loop.time() < end or not rounds:
            await there.group_add("group", channel)
            await reaches(here, there, channel)
            await there.group_discard("group", channel)
            rounds += 1
    finally:
        over.set()
        await in_thread(sweeping.join)
