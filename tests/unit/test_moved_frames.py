"""A frame that was moved to where it is not for is refused and counted: every pair of places and kinds of messages."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import channels_trunk
from channels_trunk.clock import SYSTEM_CLOCK
from channels_trunk.codec import LOG, Codec, Slot
from channels_trunk.codec.codec import FRAME_VERSION, SEALED_VERSION
from channels_trunk.codec.encryption import make_cipher
from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import DecodeError
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.frames import claimed_message, envelopes_for_node, envelopes_in
from channels_trunk.transports.rabbitmq.channel import Delivery
from channels_trunk.transports.rabbitmq.inbox import Inbox
from channels_trunk.transports.rabbitmq.settings import RabbitMQSettings
from channels_trunk.transports.rabbitmq.topology import EVERY_NODE_KEY, FRAME_TYPE, Topology
from channels_trunk.transports.rabbitmq.wire import Properties
from channels_trunk.transports.rabbitmq.workers import _slot

WRITER, HERE, THERE = ("tk" + letter * 16 for letter in "abc")
TOPOLOGY = Topology(
    prefix="asgi",
    groups_exchange="asgi.groups",
    durable=True,
    queue_type="classic",
    queue_expires=1800.0,
    ledger_expires=1800.0,
    remote_capacity=100,
)
SETTINGS = RabbitMQSettings(
    addresses=(), topology=TOPOLOGY, expiry=60.0, send_timeout=5.0, prefetch_count=100, accepts_plain=False
)

ENVELOPES = {
    "a process's channel": (Kind.MAILBOX, f"specific.{HERE}!a"),
    "another process's channel": (Kind.MAILBOX, f"specific.{THERE}!a"),
    "group first": (Kind.GROUP, "first"),
    "group second": (Kind.GROUP, "second"),
    "channel first": (Kind.QUEUE, "first"),
    "channel second": (Kind.QUEUE, "second"),
    "a process": (Kind.CONTROL, HERE),
    "another process": (Kind.CONTROL, THERE),
    "every process": (Kind.CONTROL, EVERY_NODE),
    # Where a name is one of another kind, the kind decides.
    "a group by the name of a queue": (Kind.GROUP, "asgi.channel.first"),
    "a group by the name of a process": (Kind.GROUP, HERE),
    "a channel by the name of a process": (Kind.QUEUE, HERE),
    "a kind that is not known": (7, "first"),
}
NODES_OWN = {"a process's channel", "a process"}
NOT_IN_A_LOG = {"channel first", "channel second", "a channel by the name of a process", "a kind that is not known"}

Reader = Callable[["Node", bytes], list[tuple[int, str]]]


class Node:
    """One that reads, and counts what it skips; the rest of the sink's contract is not used."""

    def __init__(self, codec: Codec) -> None:
        self.skips: list[Exception] = []
        sink: Any = self
        self.context = NodeContext(HERE, "asgi", codec, sink, SYSTEM_CLOCK, lambda _channel: 100)

    def skipped(self, error: Exception) -> None:
        self.skips.append(error)


def in_log(slot: Slot) -> Reader:
    def read(node: Node, frame: bytes) -> list[tuple[int, str]]:
        return [(found.kind, found.target) for found in envelopes_for_node(node.context, frame, slot)]

    return read


def in_row(channel: str) -> Reader:
    def read(node: Node, frame: bytes) -> list[tuple[int, str]]:
        claimed = claimed_message(node.context, channel, 9e9, frame)
        return [] if claimed is None else [(Kind.QUEUE, claimed.channel)]

    return read


def delivery(key: str, frame: bytes, *, is_direct: bool) -> Delivery:
    return Delivery(1, False, key.encode(), Properties(FRAME_TYPE, b"x.1"), frame, is_direct)


def in_queue_of_node(key: str) -> Reader:
    def read(node: Node, frame: bytes) -> list[tuple[int, str]]:
        inbox = Inbox(node.context, SETTINGS)
        inbox._keep(delivery(key, frame, is_direct=False))
        return [(found.kind, found.target) for found in inbox.take()]

    return read


def in_queue_of_channel(channel: str, key: str, *, is_direct: bool) -> Reader:
    def read(node: Node, frame: bytes) -> list[tuple[int, str]]:
        try:
            found = envelopes_in(node.context, frame, _slot(channel, delivery(key, frame, is_direct=is_direct)))
        except DecodeError as error:
            node.skips.append(error)
            return []
        return [(envelope.kind, envelope.target) for envelope in found]

    return read


# Each place, and what may be delivered from there; what a log holds for others is neither delivered nor refused.
PLACES: dict[str, tuple[Reader, set[str], set[str]]] = {
    "log": (
        in_log(LOG),
        set(ENVELOPES) - NOT_IN_A_LOG - {"another process's channel", "another process"},
        {"another process's channel", "another process"},
    ),
    "row of channel first": (in_row("first"), {"channel first"}, set()),
    "row of channel second": (in_row("second"), {"channel second"}, set()),
    "node's queue, by its own key": (in_queue_of_node(TOPOLOGY.node_key(HERE)), NODES_OWN, set()),
    "node's queue, by the key of all": (in_queue_of_node(EVERY_NODE_KEY), {"every process"}, set()),
    "node's queue, by group first": (in_queue_of_node("first"), {"group first"}, set()),
    "node's queue, by group second": (in_queue_of_node("second"), {"group second"}, set()),
    "node's queue, directly": (in_queue_of_node(f"asgi.node.{HERE}.0"), set(), set()),
    "node's queue, by another node's key": (in_queue_of_node(TOPOLOGY.node_key(THERE)), set(), set()),
    "queue of channel first": (
        in_queue_of_channel("first", "asgi.channel.first", is_direct=True),
        {"channel first"},
        set(),
    ),
    "queue of channel second": (
        in_queue_of_channel("second", "asgi.channel.second", is_direct=True),
        {"channel second"},
        set(),
    ),
    "queue of channel second, by group first": (
        in_queue_of_channel("second", "first", is_direct=False),
        {"channel second", "group first"},
        set(),
    ),
}


def codec(*, prefix: str = "asgi", version: int = SEALED_VERSION, key: str = "key") -> Codec:
    cipher = make_cipher([key] if key else [])
    return Codec(serializer_format="msgpack", cipher=cipher, prefix=prefix, sealed_version=version)


SEALED, OLDER, PLAIN = codec(), codec(version=FRAME_VERSION), codec(key="")


@pytest.mark.parametrize("writer", [SEALED, OLDER, PLAIN], ids=["encrypted", "encrypted as version 1", "plain"])
@pytest.mark.parametrize(("name", "place"), list(itertools.product(ENVELOPES, PLACES)))
def test_every_message_in_every_place(name: str, place: str, writer: Codec) -> None:
    kind, target = ENVELOPES[name]
    read, delivered, passed = PLACES[place]
    node = Node(PLAIN if writer is PLAIN else SEALED)
    found = read(node, writer.encode_frame(WRITER, [Envelope(kind, target, 9e9, b"x")]))
    assert found == ([(kind, target)] if name in delivered else [])
    assert len(node.skips) == (0 if name in delivered | passed else 1)
    for skip in node.skips:
        assert target not in str(skip)


@pytest.mark.parametrize("place", PLACES)
def test_one_message_that_is_not_for_the_place_has_the_whole_frame_refused(place: str) -> None:
    read, delivered, passed = PLACES[place]
    for good in delivered:
        for bad in set(ENVELOPES) - delivered - passed:
            batch = [Envelope(*ENVELOPES[name], 9e9, b"x") for name in (good, good, bad)]
            node = Node(SEALED)
            assert read(node, SEALED.encode_frame(WRITER, batch)) == []
            assert len(node.skips) == 1


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "writer", [codec(prefix="blue"), codec(prefix="blue", version=FRAME_VERSION), codec(key="another")]
)
def test_nothing_comes_from_another_prefix_or_with_another_key(place: str, writer: Codec) -> None:
    read, delivered, _ = PLACES[place]
    for name in delivered:
        node = Node(SEALED)
        assert read(node, writer.encode_frame(WRITER, [Envelope(*ENVELOPES[name], 9e9, b"x")])) == []
        assert len(node.skips) == 1


@pytest.mark.parametrize("place", ["log", "node's queue, by group first"])
def test_a_node_reads_nothing_that_it_wrote_itself(place: str) -> None:
    node = Node(SEALED)
    frame = SEALED.encode_frame(HERE, [Envelope(Kind.GROUP, "first", 9e9, b"x")])
    assert PLACES[place][0](node, frame) == []
    assert [str(skip) for skip in node.skips] == ["a frame lies where it is not for: this process wrote it itself"]


# --- versions


@pytest.mark.parametrize("prefix", ["a", "ab", "\x02", "\x02\x04", "asgi"])
@pytest.mark.parametrize(("of", "as_if"), [(SEALED_VERSION, FRAME_VERSION), (FRAME_VERSION, SEALED_VERSION)])
def test_nobody_can_have_a_version_taken_for_the_other(of: int, as_if: int, prefix: str) -> None:
    frame = codec(prefix=prefix, version=of).encode_frame(WRITER, [Envelope(Kind.GROUP, "first", 9e9, b"x")])
    assert frame[:2] == bytes((of, 1))
    with pytest.raises(DecodeError):
        codec(prefix=prefix).decode_frame(bytes((as_if, 1)) + frame[2:])


def test_both_versions_are_read_and_the_older_is_written_on_demand() -> None:
    batch = [Envelope(Kind.GROUP, "first", 9e9, b"x")]
    for reader, writer in itertools.product((SEALED, OLDER), repeat=2):
        assert reader.decode_frame(writer.encode_frame(WRITER, batch)) == (WRITER, batch)
    assert PLAIN.encode_frame(WRITER, batch)[:2] == bytes((FRAME_VERSION, 0))


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=3), st.booleans())
def test_a_changed_frame_is_refused(changes: list[tuple[int, int]], cut: bool) -> None:
    frame = SEALED.encode_frame(WRITER, [Envelope(Kind.QUEUE, "first", 9e9, b"x")])
    changed = bytearray(frame)
    for at, byte in changes:
        changed[at % len(changed)] = byte
    data = bytes(changed[: changes[0][0]] if cut else changed)
    node = Node(SEALED)
    found = claimed_message(node.context, "first", 9e9, data)
    assert (found is not None) == (data == frame)
    assert len(node.skips) == (data != frame)


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\0", b"\0\2", b"\0\2\4asgi", b"\0\2\4asgi\x93\xa1n\xa7msgpack"])
)
def test_whatever_was_encrypted_with_the_right_key_is_read_or_refused(junk: bytes, head: bytes) -> None:
    cipher = make_cipher(["key"])
    assert cipher is not None
    for version in (FRAME_VERSION, SEALED_VERSION):
        node = Node(SEALED)
        data = bytes((version, 1)) + cipher.encrypt(head + junk)
        for read, _, _ in PLACES.values():
            read(node, data)


# --- nobody goes round it


def test_transports_open_frames_in_one_place_alone() -> None:
    folder = Path(channels_trunk.__file__).parent
    found = [path.name for path in folder.rglob("*.py") if re.search(r"\.decode_frame\(", path.read_text())]
    assert found == ["frames.py"]
