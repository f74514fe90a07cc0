"""The writer, on a line that is only made up: what it makes of refusals and of sessions that are cut."""

from typing import Any, cast

import pytest

from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.names import new_node_id
from channels_trunk.transports.base import Busy, NodeContext
from channels_trunk.transports.postgres.errors import STALE
from channels_trunk.transports.postgres.line import Line
from channels_trunk.transports.postgres.names import Names
from channels_trunk.transports.postgres.wire import ServerError
from channels_trunk.transports.postgres.writer import Unanswered, Writer
from tests.plugins.clock import FakeClock
from tests.unit.transports.test_contract import RecordingSink

CODEC = Codec(serializer_format="msgpack", cipher=None)
CUT = TransportUnavailable("cut")
TO_GROUP = Envelope(Kind.GROUP, "room", 2e9, b"body")
Rows = list[tuple[Any, ...]]
LACKING: Rows = [(None,)]
CHANNELS = 9  # the place among the values of a publish


class FakeLine:
    """A line, and its session in one; publish() ends as the next of `outcomes` says."""

    def __init__(self, *outcomes: Rows | Exception) -> None:
        self.outcomes = list(outcomes)
        self.members: Rows = []
        self.queued: list[list[str]] = []  # the channels of each publish() that had any
        self.lowest = 1
        self.is_forgotten = False

    async def wire(self) -> "FakeLine":
        return self

    async def run(self, statement: Any, *values: Any) -> Rows:
        if b"publish(" in statement.sql:
            if len(values) > CHANNELS:
                self.queued.append(["jobs"] * values[CHANNELS].data.count(b"jobs"))
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
    return Writer(
        cast("Line", line), context, Names("public", "trunk_"), wrote=lambda _size: None, unanswered=Unanswered()
    ), sink


def stored(row: int, *left_out: int) -> Rows:
    return [([row, *left_out],)]


async def test_what_was_not_stored_for_want_of_its_members_is_sent_with_them() -> None:
    """In the order of the batch; and for as long as the server does not say that one is a member no more."""
    line = FakeLine(LACKING, stored(1), stored(2, -2), stored(3))
    line.members = [("room", "jobs")]
    writer, sink = writer_on(line)
    to_channel = Envelope(Kind.QUEUE, "jobs", 2e9, b"first")
    for _ in range(3):
        assert await writer.publish([to_channel, TO_GROUP]) == []
    assert line.queued == [["jobs"], ["jobs", "jobs"], ["jobs", "jobs"], ["jobs"]]
    assert sink.drops == []


async def test_a_member_that_is_full_goes_without_and_a_channel_that_is_full_refuses() -> None:
    line = FakeLine(LACKING, stored(1, 0, 1))
    line.members = [("room", "jobs")]
    writer, sink = writer_on(line)
    assert await writer.publish([TO_GROUP, Envelope(Kind.QUEUE, "jobs", 2e9, b"second")]) == [1]
    assert sink.drops == ["jobs"]


async def test_a_node_that_was_forgotten_stores_nothing_and_says_so() -> None:
    """It was when the batch was about to come again with its members: all of it goes back to the hub."""
    line = FakeLine(LACKING, ServerError(STALE, "another session appends"))
    line.members, line.is_forgotten = [("room", "jobs")], True
    writer, sink = writer_on(line)
    with pytest.raises(Busy):
        await writer.publish([TO_GROUP])
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
