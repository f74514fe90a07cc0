"""The writer, on a line that is only made up: what it makes of refusals and of sessions that are cut."""

from typing import Any, cast

import pytest

from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.names import new_node_id
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.postgres.errors import STALE
from channels_trunk.transports.postgres.line import Line
from channels_trunk.transports.postgres.names import Names
from channels_trunk.transports.postgres.wire import ServerError
from channels_trunk.transports.postgres.writer import Writer
from tests.plugins.clock import FakeClock
from tests.unit.transports.test_contract import RecordingSink

CODEC = Codec(serializer_format="msgpack", cipher=None)
CUT = TransportUnavailable("cut")
TO_GROUP = Envelope(Kind.GROUP, "room", 2e9, b"body")
Rows = list[tuple[Any, ...]]


class FakeLine:
    """A line, and its session in one; publish() ends as the next of `outcomes` says."""

    def __init__(self, *outcomes: Rows | Exception) -> None:
        self.outcomes = list(outcomes)
        self.members: Rows = []
        self.lowest = 1
        self.is_forgotten = False

    async def wire(self) -> "FakeLine":
        return self

    async def run(self, statement: Any, *_values: Any) -> Rows:
        if b"publish(" in statement.sql:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        if b"members" in statement.sql:
            return self.members
        if b"SET session" in statement.sql:
            return [] if self.is_forgotten else [(1,)]
        return [] if b"refused" in statement.sql else [(self.lowest,)]


def writer_on(line: FakeLine) -> tuple[Writer, RecordingSink]:
    sink = RecordingSink()
    context = NodeContext(new_node_id(), "asgi", CODEC, sink, FakeClock().as_clock(), lambda _channel: 100)
    return Writer(cast("Line", line), context, Names("public", "trunk_"), lambda _size: None), sink


def stored(row: int, *, generation: int = 1) -> Rows:
    return [([row, generation],)]


async def test_a_stored_batch_is_not_sent_again_when_what_follows_is_refused() -> None:
    """A normal channel had joined the group, and by then the node was forgotten."""
    line = FakeLine(stored(1), ServerError(STALE, "another session appends"))
    line.members, line.is_forgotten = [("room", "jobs", 2e9)], True
    writer, sink = writer_on(line)
    assert await writer.publish([TO_GROUP]) == []
    assert {str(error) for error in sink.losses} == {"this node was forgotten"}


@pytest.mark.parametrize(("looked", "told"), [(False, True), (True, False)], ids=["long ago", "lately"])
async def test_a_log_that_was_emptied_before_a_batch_says_nothing_of_it(*, looked: bool, told: bool) -> None:
    """The session is cut under the first batch for long, and the log has been emptied since the one before."""
    line = FakeLine(stored(5), CUT, stored(50))
    writer, _sink = writer_on(line)
    await writer.publish([TO_GROUP])
    line.lowest = 41
    if looked:
        writer.log_ends_at(40)
    if told:
        with pytest.raises(TransportUnavailable, match="the log was emptied before its end was known"):
            await writer.publish([TO_GROUP])
    else:
        assert await writer.publish([TO_GROUP]) == []


async def test_a_log_that_was_emptied_under_a_batch_leaves_its_end_unknown() -> None:
    line = FakeLine(CUT)
    writer, _sink = writer_on(line)
    writer.log_ends_at(40)
    line.lowest = 42
    with pytest.raises(TransportUnavailable, match="the log was emptied before its end was known"):
        await writer.publish([TO_GROUP])
