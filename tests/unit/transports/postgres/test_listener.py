"""The listener, on a wire that is only made up: order, duplicates, frames that must be fetched, gaps, marks."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from channels_trunk.codec import Codec
from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.names import new_node_id
from channels_trunk.testing import eventually
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.postgres.listener import Listener
from channels_trunk.transports.postgres.names import Names
from channels_trunk.transports.postgres.wire import Notice, ServerError, Wire
from tests.plugins.clock import FakeClock
from tests.unit.transports.test_contract import RecordingSink

CODEC = Codec(serializer_format="msgpack", cipher=None)
ME, OTHER = new_node_id(), new_node_id()
NAMES = Names("public", "trunk_")
BELLS = NAMES.bells("asgi")
ENDS = 2e9
Rows = list[tuple[Any, ...]]


def frame(*bodies: bytes, origin: str = "other", target: str = "room", kind: Kind = Kind.GROUP) -> bytes:
    return CODEC.encode_frame(origin, [Envelope(kind, target, ENDS, body) for body in bodies])


def notice(row: int, packed: bytes | None, *, origin: str = "other", channel: str = "room") -> Notice:
    payload = "" if packed is None else base64.b64encode(packed).decode()
    return Notice(channel, f"{row} {origin} {payload}")


class FakeWire:
    """Answers fetches from `rows`, and reads of the log from `log`; each answer waits for `gate`."""

    def __init__(self) -> None:
        self.rows: dict[int, bytes] = {}
        self.log: list[Rows] = []
        self.lowest, self.head = 1, 0  # where the log begins, and ends beyond those rows
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0
        self.error: Exception | None = None

    async def run(self, statement: Any, *values: Any) -> Rows:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if b"ANY ($1)" in statement.sql:
            data = values[0].data
            wanted = [int.from_bytes(data[at + 4 : at + 12], "big") for at in range(20, len(data), 12)]
            return [(row, self.rows[row]) for row in wanted if row in self.rows]
        rows = self.log.pop(0) if self.log else []
        ends = self.lowest, max([self.head, *(row[0] for row in rows)])
        return [(*ends, *row) for row in rows] or [(*ends, None, None, None)]


class ReadingSink(RecordingSink):
    """Takes what can be handed over when it is told, as a hub does."""

    take: Callable[[], list[Envelope]]

    def received(self, envelopes: Sequence[Envelope]) -> None:
        super().received([*envelopes, *self.take()])


class Desk:
    """A listener and everything around it."""

    def __init__(self) -> None:
        self.sink = ReadingSink()
        self.wire = FakeWire()
        context = NodeContext(ME, "asgi", CODEC, self.sink, FakeClock().as_clock(), lambda _: 100)
        self.listener = Listener(context, NAMES)
        self.sink.take = self.listener.take
        self.listener.use(cast(Wire, self.wire))

    async def begin(self) -> None:
        await self.listener.catch_up()

    def hear(self, *notices: Notice) -> None:
        self.listener.heard(notices)
        self.sink.received(())

    async def bodies(self, count: int) -> list[bytes]:
        await eventually(lambda: len(self.sink.envelopes) >= count)
        return self.sink.bodies()


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.begin()
    return made


async def test_frames_that_come_with_their_notification_are_handed_over_at_once(desk: Desk) -> None:
    desk.hear(notice(1, frame(b"a", b"b")), notice(2, frame(b"c")))
    assert desk.sink.bodies() == [b"a", b"b", b"c"]
    assert desk.listener.position == 2
    assert desk.wire.asked == 1  # catch_up() alone


async def test_a_row_that_is_told_on_several_channels_comes_once(desk: Desk) -> None:
    desk.hear(notice(1, frame(b"a")), notice(1, frame(b"a"), channel="other-room"), notice(2, frame(b"b")))
    desk.hear(notice(2, frame(b"b")), notice(1, frame(b"a")))
    assert desk.sink.bodies() == [b"a", b"b"]


async def test_a_node_does_not_hear_itself(desk: Desk) -> None:
    desk.hear(notice(1, frame(b"mine"), origin=ME), notice(2, None, origin=ME))
    assert desk.sink.bodies() == []
    assert desk.listener.position == 2
    assert desk.wire.asked == 1


async def test_what_must_be_fetched_holds_up_what_is_behind_it(desk: Desk) -> None:
    desk.wire.gate.clear()
    desk.wire.rows = {2: frame(b"large"), 4: frame(b"large too")}
    desk.hear(notice(1, frame(b"a")), notice(2, None), notice(3, frame(b"b")), notice(4, None), notice(4, None))
    assert desk.sink.bodies() == [b"a"]
    desk.hear(notice(5, frame(b"c")))
    assert desk.sink.bodies() == [b"a"]
    desk.wire.gate.set()
    assert await desk.bodies(5) == [b"a", b"large", b"b", b"large too", b"c"]
    assert desk.listener.position == 5


async def test_many_that_must_be_fetched(desk: Desk) -> None:
    desk.wire.rows = {row: frame(str(row).encode()) for row in range(1, 100)}
    desk.hear(*(notice(row, None) for row in range(1, 100)))
    assert await desk.bodies(99) == [str(row).encode() for row in range(1, 100)]
    assert desk.wire.asked < 12


async def test_a_row_that_is_gone_is_a_gap(desk: Desk) -> None:
    desk.wire.rows = {2: frame(b"b")}
    desk.hear(notice(1, None), notice(2, None))
    assert await desk.bodies(1) == [b"b"]
    assert desk.sink.gaps == ["the log was emptied before this process had read it"]


async def test_what_is_heard_while_the_log_is_read_comes_behind_it() -> None:
    desk = Desk()
    desk.wire.gate.clear()
    desk.wire.log = [[(1, "other", frame(b"a")), (2, ME, frame(b"mine")), (3, "other", frame(b"b"))]]
    reading = asyncio.ensure_future(desk.begin())
    await eventually(lambda: desk.wire.asked)
    desk.hear(notice(3, frame(b"b")), notice(4, frame(b"c")))
    assert desk.sink.bodies() == []
    desk.wire.gate.set()
    await reading
    assert desk.sink.bodies() == [b"a", b"b", b"c"]
    assert desk.listener.position == 4


async def test_the_log_is_read_to_its_end() -> None:
    desk = Desk()
    rows: Rows = [(row, "other", frame(str(row).encode())) for row in range(1, 251)]
    desk.wire.log = [rows[:100], rows[100:200], rows[200:]]
    await desk.begin()
    assert desk.sink.bodies() == [str(row).encode() for row in range(1, 251)]


async def test_what_is_for_others_is_passed() -> None:
    """Nobody waits for this node to read it, and it misses nothing when that is emptied."""
    desk = Desk()
    desk.wire.head = 30
    await desk.begin()
    desk.wire.lowest, desk.wire.head = 31, 40
    await desk.begin()
    assert desk.listener.position == 40
    assert desk.sink.gaps == []


async def test_a_log_that_was_emptied_while_nobody_listened_is_a_gap() -> None:
    desk = Desk()
    desk.wire.log = [[(1, "other", frame(b"a"))]]
    await desk.begin()
    desk.wire.lowest, desk.wire.log = 3, [[(3, "other", frame(b"c"))]]
    await desk.begin()
    assert desk.sink.bodies() == [b"a", b"c"]
    assert desk.sink.gaps == ["the log was emptied before this process had read it"]
    await desk.begin()
    assert len(desk.sink.gaps) == 1


async def test_a_mark_comes_behind_everything_in_front_of_it(desk: Desk) -> None:
    desk.wire.gate.clear()
    desk.wire.rows = {7: frame(b"large")}
    desk.hear(notice(7, None), Notice("me", "mark 9"))
    assert not desk.listener.marked.is_set()
    desk.wire.gate.set()
    await asyncio.wait_for(desk.listener.marked.wait(), 5)
    assert desk.sink.bodies() == [b"large"]
    assert desk.listener.position == 9
    assert desk.listener.marked_at > 0


@pytest.mark.parametrize(
    "payload", ["", "x", "1 other", "x other eA==", "1 other !", "1 other x", "mark", "mark x", "1 2 3 4"]
)
async def test_a_malformed_notification_is_skipped(desk: Desk, payload: str) -> None:
    desk.hear(Notice("room", payload), notice(1, frame(b"a")))
    assert desk.sink.bodies() == [b"a"]
    assert [str(error) for error in desk.sink.skips] == ["a malformed notification"]


async def test_a_malformed_frame_is_skipped(desk: Desk) -> None:
    desk.hear(notice(1, b"nonsense"), notice(2, frame(b"a")))
    assert desk.sink.bodies() == [b"a"]
    assert len(desk.sink.skips) == 1


async def test_only_what_is_for_this_node_is_handed_over(desk: Desk) -> None:
    mine, theirs = f"specific.{ME}!abc", f"specific.{OTHER}!abc"
    desk.hear(
        notice(1, frame(b"mine", target=mine, kind=Kind.MAILBOX)),
        notice(2, frame(b"theirs", target=theirs, kind=Kind.MAILBOX)),
        notice(3, frame(b"to me", target=ME, kind=Kind.CONTROL)),
        notice(4, frame(b"to all", target=EVERY_NODE, kind=Kind.CONTROL)),
        notice(5, frame(b"to another", target=OTHER, kind=Kind.CONTROL)),
    )
    assert desk.sink.bodies() == [b"mine", b"to me", b"to all"]


async def test_hints_of_normal_channels(desk: Desk) -> None:
    desk.listener.watched = frozenset({"jobs", "mail"})
    desk.hear(Notice(BELLS.queue("jobs"), "queue"), Notice(BELLS.queue("jobs"), "queue"))
    assert desk.listener.hinted() == ["jobs"]
    assert desk.listener.hinted() == ()
    desk.hear(Notice(BELLS.queue("nobody waits here") + "0", "queue"))
    assert desk.listener.hinted() == []


@pytest.mark.parametrize(
    ("error", "losses"), [(TransportUnavailable("cut"), 0), (ServerError("42P01", "no such table"), 1)]
)
async def test_a_fetch_that_fails(desk: Desk, error: Exception, losses: int) -> None:
    """A cut is for the next connection, which reads the log from here on; a refusal is told to the hub."""
    desk.wire.error = error
    desk.hear(notice(1, None), notice(2, frame(b"a")))
    await eventually(lambda: desk.wire.asked == 2 and desk.listener._reading is None)
    assert desk.sink.bodies() == []
    assert desk.listener.position == 0
    assert len(desk.sink.losses) == losses
    desk.wire = FakeWire()
    desk.wire.log = [[(1, "other", frame(b"large")), (2, "other", frame(b"a"))]]
    desk.listener.use(cast(Wire, desk.wire))
    await desk.begin()
    assert desk.sink.bodies() == [b"large", b"a"]


async def test_a_listener_that_was_stopped_reads_no_more(desk: Desk) -> None:
    desk.wire.gate.clear()
    desk.hear(notice(1, None))
    desk.listener.stop()
    desk.wire.gate.set()
    with pytest.raises(TransportUnavailable):
        await desk.listener.catch_up()
    assert desk.sink.bodies() == []
