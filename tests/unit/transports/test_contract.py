"""The contract of transports/base.py, on both transports that live inside one process."""

import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from channels_trunk.codec import Codec
from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing import eventually
from channels_trunk.testing.transports import FaultyTransport, LoopbackTransport
from channels_trunk.transports.base import NodeContext, Transport
from channels_trunk.transports.memory import MemoryTransport
from tests.plugins.clock import FakeClock

CAPACITY = 3
_ids = itertools.count(1)


class RecordingSink:
    """Keeps what a transport tells it."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.channels: list[str] = []
        self.gaps: list[str] = []
        self.losses: list[BaseException] = []
        self.skips: list[Exception] = []
        self.drops: list[str] = []
        self.maintain_total = 0
        self.times: list[float] = []
        self.stalls: list[str] = []

    def received(self, envelopes: Sequence[Envelope]) -> None:
        self.envelopes += envelopes

    def available(self, channels: Sequence[str]) -> None:
        self.channels += channels

    def gap(self, reason: str) -> None:
        self.gaps.append(reason)

    def lost(self, error: BaseException) -> None:
        self.losses.append(error)

    def skipped(self, error: Exception) -> None:
        self.skips.append(error)

    def dropped(self, channel: str) -> None:
        self.drops.append(channel)

    def engine_time(self, now: float) -> None:
        self.times.append(now)

    def maintain_soon(self) -> None:
        self.maintain_total += 1

    def hampered(self, reason: str) -> None:
        raise AssertionError(reason)

    def stalled(self, reason: str) -> None:
        self.stalls.append(reason)

    def bodies(self) -> list[bytes]:
        return [envelope.body for envelope in self.envelopes]


class Node:
    """A transport that is open, and its sink."""

    def __init__(self, transport: Transport, clock: FakeClock) -> None:
        self.transport = transport
        self.sink = RecordingSink()
        self.node = f"tk{next(_ids):016d}".translate(str.maketrans("0123456789", "abcdefghij"))
        codec = Codec(serializer_format="msgpack", cipher=None)
        self.clock = clock.as_clock()
        self.context = NodeContext(self.node, "test", codec, self.sink, self.clock, lambda _channel: CAPACITY)

    def envelope(self, kind: Kind, target: str, body: bytes, *, lasts: float = 60.0) -> Envelope:
        return Envelope(kind, target, self.clock.wall() + lasts, body)

    async def publish(self, kind: Kind, target: str, *bodies: bytes, lasts: float = 60.0) -> Sequence[int]:
        return await self.transport.publish([self.envelope(kind, target, body, lasts=lasts) for body in bodies])

    async def claim(self, channel: str, limit: int = 10) -> list[bytes]:
        return [message.body for message in await self.transport.claim(channel, limit)]


Open = Callable[[], Awaitable[Node]]


@pytest.fixture(params=["memory", "loopback", "faulty"])
async def open_node(request: pytest.FixtureRequest, fake_clock: FakeClock) -> AsyncIterator[Open]:
    name = f"contract-{uuid.uuid4().hex}"
    makers: dict[str, Callable[[], Transport]] = {
        "memory": lambda: MemoryTransport(name),
        "loopback": lambda: LoopbackTransport(name),
        "faulty": lambda: FaultyTransport(LoopbackTransport(name)),
    }
    nodes: list[Node] = []

    async def open_one() -> Node:
        node = Node(makers[request.param](), fake_clock)
        await node.transport.open(node.context)
        nodes.append(node)
        return node

    yield open_one
    for node in nodes:
        await node.transport.close(leave=True)


async def hear(node: Node, *groups: str) -> None:
    if node.transport.capabilities.needs_interest:
        await node.transport.interest(frozenset(groups))


async def test_envelopes_reach_their_node_in_order_and_nobody_else(open_node: Open) -> None:
    one, two, three = await open_node(), await open_node(), await open_node()
    for number in range(5):
        await one.publish(Kind.MAILBOX, f"x.{two.node}!1", b"a%d" % number, b"b%d" % number)
    await one.publish(Kind.CONTROL, two.node, b"end")
    await eventually(lambda: len(two.sink.envelopes) == 11)
    assert two.sink.bodies() == [b"%c%d" % (kind, n) for n in range(5) for kind in b"ab"] + [b"end"]
    assert one.sink.envelopes == three.sink.envelopes == []


async def test_groups_and_every_node_reach_all_others(open_node: Open) -> None:
    nodes = [await open_node() for _ in range(3)]
    for node in nodes:
        await hear(node, "g")
    await nodes[0].publish(Kind.GROUP, "g", b"group")
    await nodes[0].publish(Kind.CONTROL, EVERY_NODE, b"all")
    await eventually(lambda: all(len(node.sink.envelopes) == 2 for node in nodes[1:]))
    assert [node.sink.bodies() for node in nodes] == [[], *[[b"group", b"all"]] * 2]


async def test_group_is_heard_beside_those_before(open_node: Open) -> None:
    one, two = await open_node(), await open_node()
    if not two.transport.capabilities.needs_interest:
        return  # it hears every group anyway, as the test above shows
    await hear(two, "a", "b")
    await two.transport.hear(frozenset({"b", "c"}))
    for group in "abc":
        await one.publish(Kind.GROUP, group, group.encode())
    await eventually(lambda: len(two.sink.envelopes) == 3)
    assert two.sink.bodies() == [b"a", b"b", b"c"]
    assert all(map(two.transport.hears, "abc"))


async def test_node_that_is_gone_is_no_error(open_node: Open) -> None:
    one, two = await open_node(), await open_node()
    assert await one.transport.peers() == {two.node}
    await two.transport.close(leave=True)
    assert await one.transport.peers() == frozenset()
    assert list(await one.publish(Kind.MAILBOX, f"x.{two.node}!1", b"x")) == []


async def test_full_normal_channel_refuses_by_index(open_node: Open) -> None:
    one = await open_node()
    assert list(await one.publish(Kind.QUEUE, "jobs", *(b"%d" % n for n in range(5)))) == [3, 4]
    assert await one.claim("jobs", 2) == [b"0", b"1"]
    assert await one.claim("jobs") == [b"2"]
    assert await one.claim("jobs") == []


async def test_restored_messages_are_first_again(open_node: Open) -> None:
    one = await open_node()
    await one.publish(Kind.QUEUE, "jobs", b"0", b"1", b"2")
    claimed = await one.transport.claim("jobs", 2)
    await one.transport.restore(claimed)
    assert await one.claim("jobs") == [b"0", b"1", b"2"]


async def test_watched_channels_ring_and_others_do_not(open_node: Open) -> None:
    one, two = await open_node(), await open_node()
    await two.transport.watch(frozenset({"jobs"}))
    await one.publish(Kind.QUEUE, "other", b"x")
    await one.publish(Kind.QUEUE, "jobs", b"x")
    await eventually(lambda: two.sink.channels)
    assert set(two.sink.channels) == {"jobs"}
    claimed = await one.transport.claim("jobs", 1)
    two.sink.channels.clear()
    await one.transport.restore(claimed)
    await eventually(lambda: two.sink.channels == ["jobs"])


async def test_normal_channel_in_a_group_gets_each_message_once(open_node: Open, fake_clock: FakeClock) -> None:
    one, two = await open_node(), await open_node()
    for node in (one, two):
        await hear(node, "g")
    await two.transport.bind("g", "jobs", fake_clock.time() + 10)
    await two.transport.bind("g", "full", fake_clock.time() + 10)
    await one.publish(Kind.QUEUE, "full", b"1", b"2", b"3")
    await one.publish(Kind.GROUP, "g", b"x")
    assert await one.claim("jobs") == [b"x"]
    assert one.sink.drops == ["full"]
    await one.transport.unbind("g", "jobs")
    await one.publish(Kind.GROUP, "g", b"y")
    assert await one.claim("jobs") == []
    await one.transport.bind("g", "jobs", fake_clock.time() + 10)
    fake_clock.advance(10)
    await one.publish(Kind.GROUP, "g", b"z")
    assert await one.claim("jobs") == []


async def test_expired_messages_make_room_and_end_no_membership(open_node: Open, fake_clock: FakeClock) -> None:
    one = await open_node()
    await one.transport.bind("g", "jobs", float("inf"))
    await one.publish(Kind.QUEUE, "jobs", b"1", b"2", b"3", lasts=5.0)
    fake_clock.advance(5)
    assert list(await one.publish(Kind.QUEUE, "jobs", b"4")) == []
    await one.publish(Kind.GROUP, "g", b"5")
    assert await one.claim("jobs", 2) == [b"4", b"5"]


async def test_purge_empties_everything(open_node: Open) -> None:
    one, two = await open_node(), await open_node()
    await one.transport.bind("g", "jobs", float("inf"))
    await one.publish(Kind.QUEUE, "jobs", b"x")
    await two.transport.purge()
    await one.publish(Kind.GROUP, "g", b"x")
    assert await one.claim("jobs") == []


async def test_maintenance_names_its_next_time(open_node: Open, fake_clock: FakeClock) -> None:
    one = await open_node()
    await one.publish(Kind.QUEUE, "jobs", b"x")
    fake_clock.advance(60)
    assert await one.transport.maintain() > 0
    assert await one.claim("jobs") == []


async def test_close_and_open_again(open_node: Open) -> None:
    one, two = await open_node(), await open_node()
    await two.transport.close(leave=True)
    await two.transport.close(leave=True)
    await two.transport.open(two.context)
    await one.publish(Kind.CONTROL, two.node, b"x")
    await eventually(lambda: two.sink.bodies() == [b"x"])


# --- the faults of the loopback and faulty transports


async def test_loopback_keeps_what_comes_while_the_connection_is_lost(fake_clock: FakeClock) -> None:
    name = f"contract-{uuid.uuid4().hex}"
    one, two = (Node(LoopbackTransport(name), fake_clock) for _ in range(2))
    for node in (one, two):
        await node.transport.open(node.context)
    await two.transport.close(leave=False)
    await one.publish(Kind.CONTROL, two.node, b"x")
    assert two.node in await one.transport.peers()
    await two.transport.open(two.context)
    await eventually(lambda: two.sink.bodies() == [b"x"])
    for node in (one, two):
        await node.transport.close(leave=True)


async def test_planned_faults_happen_in_their_order_and_no_more(fake_clock: FakeClock) -> None:
    transport = FaultyTransport(LoopbackTransport(f"contract-{uuid.uuid4().hex}"))
    node = Node(transport, fake_clock)
    transport.fail("open", lambda: TransportUnavailable("made up"), times=2)
    for _ in range(2):
        with pytest.raises(TransportUnavailable):
            await transport.open(node.context)
    await transport.open(node.context)
    assert transport.calls["open"] == 3
    transport.delay("publish", 0.001)
    stall = transport.stall("publish")
    stall.release()
    assert list(await node.publish(Kind.QUEUE, "jobs", b"1")) == []
    assert list(await node.publish(Kind.QUEUE, "jobs", b"2")) == []
    assert stall.entered.is_set()
    assert await node.claim("jobs") == [b"1", b"2"]
    with pytest.raises(AttributeError, match="no_such"):
        transport.stall("no_such")
    await transport.close(leave=True)
