"""What claims leave behind, on a line that is only made up."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.names import new_node_id
from channels_trunk.transports.base import Claimed, NodeContext
from channels_trunk.transports.postgres.hints import Hints
from channels_trunk.transports.postgres.line import Line
from channels_trunk.transports.postgres.moves import Moves
from channels_trunk.transports.postgres.names import Names
from channels_trunk.transports.postgres.queues import Queues
from tests.plugins.clock import FakeClock
from tests.unit.transports.test_contract import RecordingSink

CODEC = Codec(serializer_format="msgpack", cipher=None)
FRAME = CODEC.encode_frame("other", [Envelope(Kind.QUEUE, "jobs", 2e9, b"body")])


class FullLine:
    """There are always as many jobs as are asked for."""

    async def run(self, _statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        return [(number, 2e9, FRAME, 7, 1.7e9) for number in range(values[-1])]

    @asynccontextmanager
    async def transaction(self) -> Any:
        yield self.run


class StoringLine:
    """Stores what is put in; each transaction ends as the next of `ends` says, and the last outcome is "committed"."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.ends = list(ends)
        self.channels: list[str] = []

    async def run(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        if b"txid_status" in statement.sql:
            return [("committed",)]
        if b"nextval" in statement.sql:
            if isinstance(self.ends[0], TransportUnavailable):
                raise self.ends.pop(0)  # type: ignore[misc]
            return [(-number,) for number in range(values[0])]
        if b"INSERT" in statement.sql:
            self.channels += [name for name in ("one", "other") if name.encode() in values[2].data]
        return [(7,)]

    @asynccontextmanager
    async def transaction(self) -> Any:
        yield self.run
        if (end := self.ends.pop(0)) is not None:
            raise end


def queues_on(line: Any, moves: Moves) -> tuple[Queues, RecordingSink]:
    sink = RecordingSink()
    context = NodeContext(new_node_id(), "asgi", CODEC, sink, FakeClock().as_clock(), lambda _channel: 100)
    names = Names("public", "trunk_")
    return Queues(cast("Line", line), context, names, moves, Hints(context, names.bells("asgi"))), sink


async def test_what_is_given_back_again_and_again_is_back_once() -> None:
    """The first attempt was given up when it was done and nobody knew; the next fails with what has come since."""
    line = StoringLine(asyncio.CancelledError(), TransportUnavailable("cut"), None)
    queues, _sink = queues_on(line, Moves())
    one, other = Claimed("one", 2e9, b""), Claimed("other", 2e9, b"")
    with pytest.raises(asyncio.CancelledError):
        await queues.restore([one])
    with pytest.raises(TransportUnavailable):
        await queues.restore([one, other])
    await queues.restore([one, other])
    assert line.channels == ["one", "other"]


async def test_what_was_to_go_back_is_flushed() -> None:
    line = StoringLine(asyncio.CancelledError())
    queues, _sink = queues_on(line, moves := Moves())
    with pytest.raises(asyncio.CancelledError):
        await queues.restore([Claimed("one", 2e9, b"")])
    moves.unsure = [move._replace(out=True) for move in moves.unsure]  # it was taken out, and nobody has it
    await queues.drop()
    await queues.settle()
    assert line.channels == ["one"]


class SlowLine(FullLine):
    """A claim is not committed before `committed` is set; then the server says so."""

    def __init__(self) -> None:
        self.begun, self.committed = asyncio.Event(), asyncio.Event()
        self.put_in = 0

    async def run(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        if b"txid_status" in statement.sql:
            self.committed.set()
            await asyncio.sleep(0)  # behind the commit, as on a session
            await asyncio.sleep(0)
            return [("committed",)]
        if b"nextval" in statement.sql:
            self.put_in += 1
        return await super().run(statement, *values)

    @asynccontextmanager
    async def transaction(self) -> Any:
        yield self.run
        self.begun.set()
        await self.committed.wait()


async def test_a_claim_that_is_under_way_is_nobody_elses_to_settle() -> None:
    line, moves = SlowLine(), Moves()
    queues, _sink = queues_on(line, moves)
    claiming = asyncio.create_task(queues.claim("jobs", 3))
    await line.begun.wait()
    await queues.settle()
    assert len(await claiming) == 3
    assert line.put_in == 0
    assert moves.unsure == []


@pytest.mark.parametrize(("claims", "asked"), [(39, 0), (40, 1), (100, 2)])
async def test_maintenance_is_asked_for_when_much_was_taken(claims: int, asked: int) -> None:
    queues, sink = queues_on(FullLine(), Moves())
    for _ in range(claims):
        assert len(await queues.claim("jobs", 50)) == 50
    assert (sink.maintain_total, queues.deleted) == (asked, 50 * claims)
