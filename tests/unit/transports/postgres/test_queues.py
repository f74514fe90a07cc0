"""What claims leave behind, on a line that is only made up."""

from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.names import new_node_id
from channels_trunk.transports.base import NodeContext
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
        return [(number, 2e9, FRAME, 7) for number in range(values[-1])]

    @asynccontextmanager
    async def transaction(self) -> Any:
        yield self.run


@pytest.mark.parametrize(("claims", "asked"), [(39, 0), (40, 1), (100, 2)])
async def test_maintenance_is_asked_for_when_much_was_taken(claims: int, asked: int) -> None:
    sink = RecordingSink()
    context = NodeContext(new_node_id(), "asgi", CODEC, sink, FakeClock().as_clock(), lambda _channel: 100)
    names = Names("public", "trunk_")
    queues = Queues(cast("Line", FullLine()), context, names, Moves(), Hints(context, names.bells("asgi")))
    for _ in range(claims):
        assert len(await queues.claim("jobs", 50)) == 50
    assert (sink.maintain_total, queues.deleted) == (asked, 50 * claims)
