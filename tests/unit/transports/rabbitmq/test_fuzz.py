"""Any bytes instead of a broker: the connection ends with an AmqpError, or goes on; nothing else comes of them.

Conversations that are nearly right find more than random bytes: frames left out, twice, in another order, with other
bytes and lengths, cut off, and read in pieces of any size.
"""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels_trunk.transports.rabbitmq.address import parse_address
from channels_trunk.transports.rabbitmq.channel import Channel, Delivery
from channels_trunk.transports.rabbitmq.connection import Connection
from channels_trunk.transports.rabbitmq.errors import AmqpError, read_close
from channels_trunk.transports.rabbitmq.frames import Frame, FrameBuffer
from channels_trunk.transports.rabbitmq.line import Line
from channels_trunk.transports.rabbitmq.publishing import Batch, Publication
from channels_trunk.transports.rabbitmq.topology import QueueSpec
from channels_trunk.transports.rabbitmq.wire import (
    BODY,
    HEADER,
    HEARTBEAT,
    METHOD,
    Malformed,
    Method,
    Properties,
    content,
    frame,
    method,
    read_content_header,
    read_declared,
    read_delivery,
    read_index,
    read_settled,
    read_short,
    read_table,
    read_tune,
    short,
    table,
)

EXAMPLES = settings(max_examples=400)
_ANSWERS = 40  # so many bytes and more are written for each frame that asks for something, and no more

HEADERS = table({"x-death": {"queue": "q", "count": 3, "more": {"is": True}}, "x-first-death-queue": "lease"})
DELIVER = short("tag") + struct.pack(">QB", 1, 0) + short("exchange") + short("key")


def message(channel: int, head: bytes, body: bytes) -> list[bytes]:
    """The frames of one that comes in."""
    header = struct.pack(">HHQH", 60, 0, len(body), 0b1011_0000_1000_0000) + short("kind") + HEADERS + b"\x02"
    pieces = [body[start : start + 40] for start in range(0, len(body), 40)]
    return [head, frame(HEADER, channel, header + short("id")), *(frame(BODY, channel, piece) for piece in pieces)]


def conversation() -> list[bytes]:
    """What a broker says, frame by frame."""
    said = [
        method(0, Method.CONNECTION_START, b"\x00\x09" + table({"version": "4.0.5", "capabilities": {"x": True}})),
        method(0, Method.CONNECTION_TUNE, struct.pack(">HIH", 2047, 131_072, 60)),
        method(0, Method.CONNECTION_OPEN_OK, b"\x00"),
    ]
    for channel in (1, 2):
        said += [method(channel, Method.CHANNEL_OPEN_OK, bytes(4)), method(channel, Method.CONFIRM_SELECT_OK)]
        said += [
            method(channel, Method.QUEUE_DECLARE_OK, short("queue") + struct.pack(">II", 3, 1)),
            method(channel, Method.BASIC_CONSUME_OK, short("tag")),
            method(channel, Method.QUEUE_BIND_OK),
            method(channel, Method.BASIC_ACK, struct.pack(">QB", 1, 0)),
            method(channel, Method.BASIC_NACK, struct.pack(">QB", 2, 1)),
            frame(HEARTBEAT, 0, b""),
        ]
        said += message(channel, method(channel, Method.BASIC_DELIVER, DELIVER), b"x" * 100)
        said += message(channel, method(channel, Method.BASIC_DELIVER, DELIVER), b"")
        got = struct.pack(">QB", 2, 1) + short("") + short("queue") + struct.pack(">I", 7)
        if channel == 2:
            said += message(channel, method(channel, Method.BASIC_GET_OK, got), b"y" * 50)
        returned = struct.pack(">H", 312) + short("NO_ROUTE") + short("") + short("queue")
        said += message(channel, method(channel, Method.BASIC_RETURN, returned), b"z")
        said += [
            method(0, Method.CONNECTION_BLOCKED, short("low on memory")),
            method(0, Method.CONNECTION_UNBLOCKED),
            method(channel, Method.BASIC_CANCEL, short("tag") + b"\x01"),
        ]
    closing = struct.pack(">H", 406) + short("PRECONDITION_FAILED") + struct.pack(">I", Method.BASIC_PUBLISH)
    return [*said, method(1, Method.CHANNEL_CLOSE, closing), method(0, Method.CONNECTION_CLOSE, closing)]


CONVERSATION = conversation()


def _replaced(data: bytes, place: int, new: bytes) -> bytes:
    place %= max(1, len(data))
    return data[:place] + new + data[place + len(new) :]


# What is done to one frame, or to the order of them.
_CHANGES = st.one_of(
    st.tuples(st.just("byte"), st.integers(0, 300), st.binary(min_size=1, max_size=4)),
    # Inside of the frame, whose own length stays right.
    st.tuples(st.just("payload"), st.integers(0, 300), st.sampled_from([b"\xff", b"\x00", b"\xff" * 4, b"F", b"A"])),
    st.tuples(st.just("length"), st.sampled_from([0, 1, 7, 61_441, 2**31, 2**32 - 1]), st.just(b"")),
    st.tuples(st.just("cut"), st.integers(0, 300), st.just(b"")),
    st.tuples(st.just("insert"), st.integers(0, 300), st.binary(max_size=20)),
    st.tuples(st.just("channel"), st.sampled_from([0, 1, 2, 3, 65_535]), st.just(b"")),
    st.tuples(st.just("twice"), st.integers(1, 5), st.just(b"")),
    st.tuples(st.just("away"), st.just(0), st.just(b"")),
    st.tuples(st.just("junk"), st.just(0), st.binary(max_size=40)),
    st.tuples(
        st.just("method"), st.sampled_from([n for n in vars(Method).values() if isinstance(n, int)]), st.just(b"")
    ),
)


def changed(frames: list[bytes], which: int, change: tuple[str, int, bytes]) -> None:
    kind, number, data = change
    which %= len(frames)
    old = frames[which]
    if len(old) < 8:
        return  # it was changed before
    payload = old[7:-1]
    ways: dict[str, Callable[[], list[bytes]]] = {
        "byte": lambda: [_replaced(old, number, data)],
        "payload": lambda: [old[:7] + _replaced(payload, number, data)[: len(payload)].ljust(len(payload)) + old[-1:]],
        "length": lambda: [old[:3] + struct.pack(">I", number) + old[7:]],
        "cut": lambda: [frame(old[0], int.from_bytes(old[1:3], "big"), payload[:number])],
        "insert": lambda: [old[:number] + data + old[number:]],
        "channel": lambda: [old[:1] + struct.pack(">H", number) + old[3:]],
        "twice": lambda: [old] * (number + 1),
        "away": lambda: [b""],
        "junk": lambda: [old, data],
        "method": lambda: [old[:7] + struct.pack(">I", number) + old[11:]],
    }
    frames[which : which + 1] = ways[kind]() or [b""]


class FakeLine:
    """Brings what the test says, in pieces of these sizes."""

    is_at_end = False

    def __init__(self, data: bytes, sizes: Sequence[int]) -> None:
        self.lock = threading.Lock()
        self.data = data
        self.sizes = list(sizes) or [len(data)]
        self.written = 0
        self.turn = 0

    def write(self, *pieces: bytes) -> None:
        self.written += sum(map(len, pieces))

    def read_into(self, room: memoryview) -> int:
        if not self.data:
            self.is_at_end = True
            raise EOFError("the end")
        size = min(max(1, self.sizes[self.turn % len(self.sizes)]), len(self.data), len(room))
        self.turn += 1
        room[:size] = self.data[:size]
        self.data = self.data[size:]
        return size

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.is_at_end = True


class Client:
    """A connection with two channels, one of which other threads may read, that asks for everything there is."""

    def __init__(self, line: FakeLine) -> None:
        self.line = line
        self.lost: list[AmqpError] = []
        self.trouble: list[dict[str, Any]] = []
        self.answers: list[asyncio.Future[Any]] = []
        self.batches: list[Batch] = []
        self.came: list[Delivery] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: self.trouble.append(context))
        self.connection = Connection(
            parse_address("amqp://user:secret@host/"), lost=self.lost.append, blocked=lambda _reason: None
        )
        self.connection._line = cast(Line, line)
        self.connection._reads_here = True  # there is no socket to watch
        self.channels = [self._channel(number, anywhere=number == 1) for number in (1, 2)]

    def _channel(self, number: int, *, anywhere: bool) -> Channel:
        channel = self.connection._channels[number] = Channel(self.connection, number, anywhere=anywhere)
        channel.on_messages = self.came.extend
        self.answers += [
            channel.request(Method.CHANNEL_OPEN, b"\x00"),
            channel.request(Method.CONFIRM_SELECT, b"\x00"),
            asyncio.ensure_future(channel.declare_queue(QueueSpec(name="queue", arguments={}))),
            channel.consume("queue", "tag", self.came.append),
            channel.bind("queue", "exchange", "key"),
        ]
        if not anywhere:
            self.answers.append(channel.get("queue"))
        publications = [Publication("", "queue", Properties(b"kind", b"id"), b"", must_arrive=True)] * 2
        channel.start(publications, self.batches.append)
        return channel

    async def read_all(self) -> None:
        await asyncio.sleep(0)
        asked = self.line.written
        total = len(self.line.data)
        while not self.line.is_at_end:
            self.connection.read()
            held = sum(sum(map(len, channel._pieces)) for channel in self.channels)
            assert held <= total
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert self.line.written - asked <= 1_000 + total * _ANSWERS

    def check(self) -> None:
        assert self.trouble == []
        connection = self.connection
        assert connection.is_over
        assert len(self.lost) <= 1
        assert len(self.batches) == 2
        for answer in self.answers:
            assert answer.done()
            if not answer.cancelled() and answer.exception() is not None:
                assert isinstance(answer.exception(), AmqpError)
        assert all(isinstance(delivery.body, bytes) for delivery in self.came)
        if connection._ready.exception() is not None:
            assert isinstance(connection._ready.exception(), AmqpError)


def talk(data: bytes, sizes: Sequence[int] = ()) -> Client:
    """Have a client read this."""

    async def run() -> Client:
        client = Client(FakeLine(data, sizes))
        try:
            await client.read_all()
            await asyncio.sleep(0)
            client.check()
        finally:
            client.connection.abort()
        return client

    return asyncio.run(run())


def test_the_conversation_itself_is_understood() -> None:
    client = talk(b"".join(CONVERSATION))
    assert len(client.came) == 4
    assert [answer.exception() for answer in client.answers] == [None] * 11
    assert [error.code for error in client.lost] == [406]


@EXAMPLES
@given(
    st.lists(st.tuples(st.integers(0, 200), _CHANGES), max_size=6),
    st.lists(st.integers(1, 400), max_size=5),
    st.integers(0, 10),
)
def test_conversations_that_are_nearly_right(
    changes: list[tuple[int, tuple[str, int, bytes]]], sizes: list[int], first: int
) -> None:
    frames = list(CONVERSATION)
    for which, change in changes:
        changed(frames, which, change)
    # Some without the handshake, as if it had been another one.
    talk(b"".join(frames[first if first > 7 else 0 :]), sizes)


@EXAMPLES
@given(st.binary(max_size=300), st.integers(0, len(CONVERSATION)), st.lists(st.integers(1, 50), max_size=4))
def test_any_bytes_after_any_beginning(junk: bytes, begun: int, sizes: list[int]) -> None:
    talk(b"".join(CONVERSATION[:begun]) + junk, sizes)


@EXAMPLES
@given(
    st.lists(
        st.tuples(st.sampled_from([METHOD, HEADER, BODY, HEARTBEAT]), st.integers(0, 2), st.binary(max_size=40)),
        max_size=20,
    )
)
def test_any_frames_in_any_order(frames: list[tuple[int, int, bytes]]) -> None:
    handshake = b"".join(CONVERSATION[:3])
    talk(handshake + b"".join(frame(*each) for each in frames))


@given(
    st.lists(st.tuples(st.sampled_from([METHOD, HEADER, BODY]), st.integers(0, 65_535), st.binary(max_size=99))),
    st.lists(st.integers(1, 70), min_size=1),
)
def test_pieces_of_any_size_are_the_same_frames(sent: list[tuple[int, int, bytes]], sizes: list[int]) -> None:
    data = b"".join(frame(*each) for each in sent)
    buffer, found, turn = FrameBuffer(), list[Frame](), 0
    while data:
        size = min(sizes[turn % len(sizes)], len(data))
        buffer.room()[:size] = data[:size]
        found += buffer.take(size)
        data, turn = data[size:], turn + 1
    assert found == [Frame(*each) for each in sent]


READERS: dict[str, Callable[[bytes], object]] = {
    "index": read_index,
    "settled": read_settled,
    "delivery": lambda data: read_delivery(data, has_consumer=True),
    "get": lambda data: read_delivery(data, has_consumer=False),
    "declared": read_declared,
    "tune": read_tune,
    "short": lambda data: read_short(data, 3),
    "header": read_content_header,
    "table": read_table,
    "close": read_close,
}
_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=9),
    lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@EXAMPLES
@given(
    st.binary(max_size=80),
    st.dictionaries(st.text(max_size=5), _VALUES, max_size=4),
    st.integers(0, 400),
    st.binary(max_size=4),
)
def test_what_reads_bytes_raises_nothing_else(data: bytes, values: dict[str, Any], place: int, new: bytes) -> None:
    right = table(values)
    assert read_table(right) == values
    for read in READERS.values():
        for some in (data, _replaced(right, place, new), right[:place], bytes(12) + b"\xff\xff" + right + data):
            with contextlib.suppress(Malformed):
                read(some)


def nested(kind: bytes, levels: int) -> bytes:
    """Tables, or arrays, in each other."""
    inner = b""
    for _ in range(levels):
        name = short("n") if kind == b"F" else b""
        inner = name + kind + struct.pack(">I", len(inner)) + inner
    return inner


def overlapping(levels: int) -> bytes:
    """Tables each of which says that it ends before what is in it does."""
    return (short("n") + b"F" + struct.pack(">I", 1)) * levels


@pytest.mark.parametrize(
    "inner",
    [
        nested(b"F", 5_000),
        short("n") + nested(b"A", 5_000),
        overlapping(5_000),
        short("n") + b"S\xff\xff\xff\xff",
        short("n") + b"F\xff\xff\xff\xff",
    ],
    ids=["tables", "arrays", "overlapping", "a long string", "a long table"],
)
def test_tables_that_are_bombs(inner: bytes) -> None:
    with pytest.raises(Malformed):
        read_table(struct.pack(">I", len(inner)) + inner)


def _bodies() -> Iterator[tuple[str, list[bytes]]]:
    head = method(1, Method.BASIC_DELIVER, DELIVER)
    yield "larger than any broker lets through", [head, frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 2**40, 0))]
    yield "more than was announced", [*message(1, head, b"x" * 10)[:2], frame(BODY, 1, b"x" * 11)]
    yield "of nothing, again and again", [*message(1, head, b"x" * 10)[:2], frame(BODY, 1, b"")]
    yield "that nobody announced", [frame(BODY, 1, b"x")]
    yield "without its method", [message(1, head, b"x")[1]]
    yield "in the midst of another", [*message(1, head, b"x" * 100)[:3], head]
    yield "a password that is asked for twice", [CONVERSATION[0]]
    yield "frames without room for anything", [method(0, Method.CONNECTION_TUNE, struct.pack(">HIH", 0, 8, 0))]


@pytest.mark.parametrize("frames", [frames for _, frames in _bodies()], ids=[name for name, _ in _bodies()])
def test_what_ends_the_connection(frames: list[bytes]) -> None:
    client = talk(b"".join(CONVERSATION[:3] + frames) + frame(HEARTBEAT, 0, b"") * 3)
    assert [str(error) for error in client.lost] == ["what came is not AMQP 0-9-1"]


def test_content_is_cut_by_the_frame_that_a_broker_wants() -> None:
    assert read_tune(bytes(4) + struct.pack(">HIH", 0, 4_096, 0)) == (0, 4_096, 0)
    assert len(content(1, b"", Properties(), bytes(10_000), 4_096)) == 2 + 3 * 3
