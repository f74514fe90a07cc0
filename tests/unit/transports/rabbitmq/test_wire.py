"""AMQP as bytes, and what of it goes out for which envelopes."""

import math
import struct

import pytest

from channels_trunk.codec import Codec
from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.transports.rabbitmq.outgoing import Parcel, expiration, parcels, published
from channels_trunk.transports.rabbitmq.topology import FRAME_TYPE, Topology
from channels_trunk.transports.rabbitmq.wire import (
    Malformed,
    Properties,
    content,
    frame,
    method,
    read_content_header,
    read_short,
    read_table,
    short,
    table,
)

TOPOLOGY = Topology(
    prefix="asgi",
    groups_exchange="asgi.groups",
    durable=True,
    queue_type="classic",
    queue_expires=60,
    ledger_expires=120,
    remote_capacity=9,
)
ONE, TWO = "tkaaaaaaaaaaaaaaaa", "tkbbbbbbbbbbbbbbbb"


def test_tables_there_and_back() -> None:
    values = {"x-max-length": 5, "yes": True, "no": False, "text": "\u00e4", "inner": {"a": -1}, "big": 2**40}
    assert read_table(table(values)) == values


def test_values_that_only_brokers_write() -> None:
    data = b"".join(
        (
            short("i") + b"I" + struct.pack(">i", -3),
            short("T") + b"T" + struct.pack(">Q", 77),
            short("V") + b"V",
            short("D") + b"D" + b"\x02\x00\x00\x00\x05",
            short("A") + b"A" + struct.pack(">I", 4) + b"b\x05b\x06",
            short("d") + b"d" + struct.pack(">d", 0.5),
        )
    )
    expected = {"i": -3, "T": 77, "V": None, "D": None, "A": [5, 6], "d": 0.5}
    assert read_table(struct.pack(">I", len(data)) + data) == expected
    with pytest.raises(Malformed):
        read_table(struct.pack(">I", 3) + short("x") + b"?")


def test_a_message_is_cut_into_frames() -> None:
    properties = Properties(b"kind", b"id.1", 1500, priority=3, is_persistent=True)
    data = b"".join(content(7, b"HEAD", properties, b"x" * 25, 18))
    assert data.startswith(b"HEAD\x02\x00\x07")
    assert data.count(b"\x03\x00\x07\x00\x00\x00\x0a" + b"x" * 10 + b"\xce") == 2
    assert data.endswith(b"\x03\x00\x07\x00\x00\x00\x05xxxxx\xce")
    (size,) = struct.unpack_from(">I", data, 7)
    assert read_content_header(data[11 : 11 + size]) == (25, Properties(b"kind", b"id.1"))
    assert content(7, b"", properties, b"", 18) == [frame(2, 7, data[11 : 11 + size].replace(b"\x19", b"\x00", 1))]


def test_headers_of_others_are_passed_over() -> None:
    headers = table({"x-first-death-queue": "q"})
    flags = 0b1111_1111_1100_0000
    head = struct.pack(">IQH", 60 << 16, 3, flags) + short("type") + short("encoding") + headers + b"\x02\x00"
    head += short("correlation") + short("reply") + short("60000") + short("id") + struct.pack(">Q", 1)
    assert read_content_header(head) == (3, Properties(b"type", b"id", headers=headers))


def test_methods_and_short_strings() -> None:
    assert method(1, 0x003C0050, b"x") == b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x50x\xce"
    assert read_short(short("abc") + b"rest", 0) == (b"abc", 4)


def envelope(kind: Kind, target: str, *, ends: float = 10.0) -> Envelope:
    return Envelope(kind, target, ends, b"body")


def test_what_goes_to_one_node_travels_together_and_overtakes_no_group() -> None:
    batch = [
        envelope(Kind.MAILBOX, f"specific.{ONE}!1"),
        envelope(Kind.MAILBOX, f"specific.{TWO}!1"),
        envelope(Kind.CONTROL, ONE),
        envelope(Kind.QUEUE, "jobs"),
        envelope(Kind.MAILBOX, f"specific.{ONE}!2"),
        envelope(Kind.GROUP, "room"),
        envelope(Kind.MAILBOX, f"specific.{ONE}!1"),
        envelope(Kind.GROUP, "room"),
        envelope(Kind.CONTROL, EVERY_NODE),
        envelope(Kind.CONTROL, ONE),
    ]
    assert parcels(batch, most=65_536) == [
        Parcel(Kind.MAILBOX, ONE, [0, 2, 4]),
        Parcel(Kind.MAILBOX, TWO, [1]),
        Parcel(Kind.QUEUE, "jobs", [3]),
        Parcel(Kind.GROUP, "room", [5]),
        Parcel(Kind.MAILBOX, ONE, [6]),
        Parcel(Kind.GROUP, "room", [7]),
        Parcel(Kind.CONTROL, EVERY_NODE, [8]),
        Parcel(Kind.MAILBOX, ONE, [9]),
    ]


@pytest.mark.parametrize(
    ("kind", "target", "exchange", "key"),
    [
        (Kind.MAILBOX, ONE, "asgi.groups", f"!{ONE}"),
        (Kind.GROUP, "room", "asgi.groups", "room"),
        (Kind.CONTROL, EVERY_NODE, "asgi.groups", "*"),
        (Kind.QUEUE, "jobs", "", "asgi.channel.jobs"),
    ],
)
def test_where_parcels_go(kind: Kind, target: str, exchange: str, key: str) -> None:
    codec = Codec(serializer_format="msgpack", cipher=None)
    batch = [envelope(kind, target), envelope(kind, target, ends=12.0)]
    made = published(
        Parcel(kind, target, [0, 1]), batch, codec=codec, node=TWO, topology=TOPOLOGY, now=10.5, number=255
    )
    assert (made.exchange, made.routing_key, made.must_arrive) == (exchange, key, kind == Kind.QUEUE)
    assert made.properties == Properties(FRAME_TYPE, f"{TWO}.ff".encode(), 1500, is_persistent=kind == Kind.QUEUE)
    assert codec.decode_frame(made.body) == (TWO, batch)


def test_what_has_expired_goes_at_once() -> None:
    assert expiration(1.0, 2.0) == 1
    assert expiration(2.0001, 2.0) == 1
    assert expiration(3.0, 2.0) == 1000


def test_leases_name_their_node() -> None:
    assert TOPOLOGY.node_of_lease(TOPOLOGY.lease(ONE, 12).name) == ONE
    longest = Topology(
        prefix="p" * 100,
        groups_exchange="g",
        durable=True,
        queue_type="quorum",
        queue_expires=1,
        ledger_expires=math.inf,
        remote_capacity=1,
    )
    spec = longest.channel_queue("c" * 99, 2**62)
    assert len(spec.name) <= 255
    assert spec.arguments["x-max-length"] == 2**31 - 1
    assert spec.arguments["x-queue-type"] == "quorum"
    assert longest.ledger().arguments["x-expires"] == 2**32 - 1
