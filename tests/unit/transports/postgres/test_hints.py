"""When a node asks for hints of normal channels, and when it looks by itself; on a wire that is only made up."""

import asyncio
from typing import Any, cast

import pytest

from channels_trunk.codec import Codec
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.names import new_node_id
from channels_trunk.testing import eventually
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.postgres import hints
from channels_trunk.transports.postgres.hints import _SOONEST, Hints
from channels_trunk.transports.postgres.names import Names
from channels_trunk.transports.postgres.wire import ServerError, Wire
from tests.plugins.clock import FakeClock
from tests.unit.transports.test_contract import RecordingSink

BELLS = Names("public", "trunk_").bells("asgi")
MANY = 100
# Of the same shard as "jobs".
NEIGHBOUR = next(name for name in map(str, range(1000)) if BELLS.queue(name) == BELLS.queue("jobs"))


@pytest.fixture(autouse=True)
def no_period_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is."""
    monkeypatch.setattr(hints, "_PERIOD", 60.0)


@pytest.fixture
def soon_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "_PERIOD", 0.01)


class FakeWire:
    """Notes what was asked of it and done; fails with `error`."""

    def __init__(self, *, pooled: bool = False) -> None:
        self.pooled = pooled
        self.done: list[str] = []
        self.asked = 0
        self.error: Exception | None = None

    async def run(self, statement: Any, _lock_class: int, bell: str) -> list[tuple[Any, ...]]:
        assert bell == BELLS.queue("jobs")
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.done.append("no more" if b"unlock" in statement.sql else "ask")
        return [(True,)]


class Desk:
    """Hints, and what they speak with."""

    def __init__(self, *watched: str, wire: FakeWire | None = None) -> None:
        self.sink = RecordingSink()
        self.wire = wire or FakeWire()
        codec = Codec(serializer_format="msgpack", cipher=None)
        context = NodeContext(new_node_id(), "asgi", codec, self.sink, FakeClock().as_clock(), lambda _: 100)
        self.hints = Hints(context, BELLS)
        self.hints.use(cast(Wire, self.wire))
        self.hints.watch(frozenset(watched or ("jobs",)))

    async def look(self) -> None:
        told = len(self.sink.channels)
        await eventually(lambda: len(self.sink.channels) > told)

    def end_period(self, *, found: int) -> Any:
        """Have a period end, in which so many were found."""
        look = self.hints._looks["jobs"]
        assert look.timer is not None
        look.timer.cancel()
        look.since -= hints._PERIOD
        look.found = found
        self.hints._look(look)
        return look

    async def come_to_look(self) -> None:
        self.hints.claimed("jobs", MANY, limit=MANY)
        await eventually(lambda: self.wire.done[:1] == ["no more"])


@pytest.mark.usefixtures("soon_quiet")
async def test_a_channel_that_is_read_quickly_needs_no_hints_until_it_is_quiet() -> None:
    desk = Desk()
    await desk.come_to_look()
    await eventually(lambda: desk.wire.done == ["no more", "ask"] and bool(desk.sink.channels))
    assert set(desk.sink.channels) == {"jobs"}
    told = len(desk.sink.channels)
    assert not desk.hints.resting("jobs")
    await asyncio.sleep(0.01)
    assert len(desk.sink.channels) == told


async def test_who_finds_messages_goes_on_looking() -> None:
    desk = Desk()
    await desk.come_to_look()
    for _ in range(30):
        await desk.look()
        desk.hints.claimed("jobs", 1, limit=8)
    assert desk.wire.done == ["no more"]


async def test_a_claim_that_found_too_few_is_the_last_before_the_next_look() -> None:
    desk = Desk()
    await desk.come_to_look()
    desk.hints.claimed("jobs", 8, limit=8)
    assert not desk.hints.resting("jobs")
    told = len(desk.sink.channels)
    desk.hints.claimed("jobs", 7, limit=8)
    assert desk.hints.resting("jobs")
    await eventually(lambda: not desk.hints.resting("jobs"))
    assert len(desk.sink.channels) > told


async def test_who_finds_many_goes_on_looking_and_who_finds_few_does_not() -> None:
    desk = Desk()
    await desk.come_to_look()
    for found, asks in ((60, False), (61, False), (59, True)):
        look = desk.end_period(found=found)
        assert (look.asking, look.found) == (asks, found if asks else 0)
    await eventually(lambda: desk.wire.done == ["no more", "ask"])


async def test_it_looks_less_often_where_it_finds_few() -> None:
    desk = Desk()
    await desk.come_to_look()
    look = desk.hints._looks["jobs"]
    pauses = [look.pause]
    for found in (0, 7, 7, 8, 24, 25, 25, 25):
        desk.hints.claimed("jobs", found, limit=64)
        pauses.append(look.pause)
    assert [pause / _SOONEST for pause in pauses] == [1, 2, 2, 2, 2, 2, 1, 1, 1]
    desk.hints.claimed("jobs", 2, limit=2)  # it may be that there are more
    assert look.pause == _SOONEST


async def test_few_messages_are_taken_at_their_hints() -> None:
    desk = Desk()
    for _ in range(8):
        desk.hints.claimed("jobs", 2, limit=8)
    desk.hints.claimed("jobs", 0, limit=8)
    await asyncio.sleep(0.005)
    assert desk.wire.done == desk.sink.channels == []
    assert not desk.hints.resting("jobs")


@pytest.mark.parametrize("watched", [("jobs", NEIGHBOUR), ("another",)])
async def test_a_channel_with_another_in_its_shard_or_unwatched_keeps_its_hints(watched: tuple[str, ...]) -> None:
    desk = Desk(*watched)
    desk.hints.claimed("jobs", MANY, limit=MANY)
    await asyncio.sleep(0.005)
    assert desk.wire.done == desk.sink.channels == []


async def test_behind_a_pooler_there_are_no_hints_to_do_without() -> None:
    desk = Desk(wire=FakeWire(pooled=True))
    desk.hints.claimed("jobs", MANY, limit=MANY)
    await asyncio.sleep(0.005)
    assert desk.wire.done == desk.sink.channels == []


async def test_another_channel_in_the_shard_has_hints_sent_again_at_once() -> None:
    desk = Desk()
    await desk.come_to_look()
    desk.hints.watch(frozenset({"jobs", NEIGHBOUR}))
    desk.hints.watch(frozenset({"jobs", NEIGHBOUR}))
    await eventually(lambda: NEIGHBOUR in desk.sink.channels)
    assert desk.wire.done == ["no more", "ask"]


async def test_a_channel_that_is_given_up_is_not_looked_at() -> None:
    desk = Desk()
    desk.hints.claimed("jobs", MANY, limit=MANY)
    desk.hints.watch(frozenset())
    desk.hints.watch(frozenset({"jobs"}))  # which asks for hints
    await asyncio.sleep(0.005)
    assert desk.wire.done == desk.sink.channels == []


async def test_a_new_session_begins_with_hints() -> None:
    desk = Desk()
    await desk.come_to_look()
    desk.hints.claimed("jobs", 0, limit=8)
    following = FakeWire()
    desk.hints.use(cast(Wire, following))
    assert not desk.hints.resting("jobs")
    told = len(desk.sink.channels)
    await asyncio.sleep(0.02)
    assert (desk.wire.done, following.done, len(desk.sink.channels)) == (["no more"], [], told)


async def test_who_asks_on_a_session_that_is_gone_waits_for_the_next() -> None:
    desk = Desk()
    await desk.come_to_look()
    desk.wire.error = TransportUnavailable("gone")
    desk.hints.watch(frozenset({"jobs", NEIGHBOUR}))
    await asyncio.sleep(0.005)
    assert not desk.hints.resting("jobs")
    following = FakeWire()
    desk.hints.use(cast(Wire, following))
    desk.hints.watch(frozenset({"jobs"}))
    desk.hints.claimed("jobs", MANY, limit=MANY)
    await eventually(lambda: following.done == ["no more"])


async def test_one_who_is_not_given_hints_goes_on_looking_and_asking() -> None:
    desk = Desk()
    await desk.come_to_look()
    desk.wire.error = ServerError("55P03", "lock timeout")
    look = desk.hints._looks["jobs"]
    for asked in (2, 3):
        desk.end_period(found=0)
        await eventually(lambda: not look.asking)
        assert desk.wire.asked == asked
        await desk.look()
    desk.wire.error = None
    desk.end_period(found=0)
    await eventually(lambda: desk.wire.done == ["no more", "ask"])


async def test_a_refusal_to_be_told_no_more_is_no_reason_to_stop_looking() -> None:
    """As when an operator cancels the statement; a task that failed would say so when it is collected."""
    desk = Desk()
    desk.wire.error = ServerError("57014", "canceling statement due to user request")
    desk.hints.claimed("jobs", MANY, limit=MANY)
    [task] = desk.hints._tasks
    await task
    await desk.look()
    assert desk.wire.done == []
