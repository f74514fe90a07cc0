"""AMQP 0-9-1 as bytes: what this package says and hears of it. Pure, and written for the two messages that are hot.

Whatever bytes are read, they are understood, or raise Malformed and nothing else, in a time that grows with their size.
"""

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = [
    "BODY",
    "HEADER",
    "HEARTBEAT",
    "HEARTBEAT_FRAME",
    "METHOD",
    "PROTOCOL_HEADER",
    "Malformed",
    "Method",
    "Piece",
    "Properties",
    "content",
    "frame",
    "method",
    "read_content_header",
    "read_declared",
    "read_delivery",
    "read_index",
    "read_settled",
    "read_short",
    "read_table",
    "read_tune",
    "short",
    "table",
]

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
_END = b"\xce"
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"

_frame_head = struct.Struct(">BHI").pack
_content_head = struct.Struct(">IQH").pack  # class and weight as one number
_read_content_head = struct.Struct(">QH").unpack_from
_read_index = struct.Struct(">I").unpack_from
_read_tag = struct.Struct(">QB").unpack_from
_read_counts = struct.Struct(">II").unpack_from
_read_limits = struct.Struct(">HIH").unpack_from
_BASIC_CLASS = 60 << 16

# Flags of the properties that are written or read here, in the order in which they stand.
_CONTENT_TYPE, _ENCODING, _HEADERS, _DELIVERY_MODE = 1 << 15, 1 << 14, 1 << 13, 1 << 12
_PRIORITY, _CORRELATION_ID, _REPLY_TO, _EXPIRATION, _MESSAGE_ID = 1 << 11, 1 << 10, 1 << 9, 1 << 8, 1 << 7


Piece = bytes | memoryview


class Method:
    """The numbers of the methods used: class << 16 | method."""

    CONNECTION_START, CONNECTION_START_OK = 0x000A000A, 0x000A000B
    CONNECTION_TUNE, CONNECTION_TUNE_OK = 0x000A001E, 0x000A001F
    CONNECTION_OPEN, CONNECTION_OPEN_OK = 0x000A0028, 0x000A0029
    CONNECTION_CLOSE, CONNECTION_CLOSE_OK = 0x000A0032, 0x000A0033
    CONNECTION_BLOCKED, CONNECTION_UNBLOCKED = 0x000A003C, 0x000A003D
    CHANNEL_OPEN, CHANNEL_OPEN_OK = 0x0014000A, 0x0014000B
    CHANNEL_CLOSE, CHANNEL_CLOSE_OK = 0x00140028, 0x00140029
    EXCHANGE_DECLARE, EXCHANGE_DECLARE_OK = 0x0028000A, 0x0028000B
    EXCHANGE_DELETE, EXCHANGE_DELETE_OK = 0x00280014, 0x00280015
    QUEUE_DECLARE, QUEUE_DECLARE_OK = 0x0032000A, 0x0032000B
    QUEUE_BIND, QUEUE_BIND_OK = 0x00320014, 0x00320015
    QUEUE_PURGE, QUEUE_PURGE_OK = 0x0032001E, 0x0032001F
    QUEUE_DELETE, QUEUE_DELETE_OK = 0x00320028, 0x00320029
    QUEUE_UNBIND, QUEUE_UNBIND_OK = 0x00320032, 0x00320033
    BASIC_QOS, BASIC_QOS_OK = 0x003C000A, 0x003C000B
    BASIC_CONSUME, BASIC_CONSUME_OK = 0x003C0014, 0x003C0015
    BASIC_CANCEL, BASIC_CANCEL_OK = 0x003C001E, 0x003C001F
    BASIC_PUBLISH, BASIC_RETURN, BASIC_DELIVER = 0x003C0028, 0x003C0032, 0x003C003C
    BASIC_GET, BASIC_GET_OK, BASIC_GET_EMPTY = 0x003C0046, 0x003C0047, 0x003C0048
    BASIC_ACK, BASIC_NACK = 0x003C0050, 0x003C0078
    CONFIRM_SELECT, CONFIRM_SELECT_OK = 0x0055000A, 0x0055000B


class Properties(NamedTuple):
    """What stands in a message's header."""

    content_type: bytes = b""
    message_id: bytes = b""
    expiration: int = 0
    """Milliseconds, or 0 for never; read back as 0."""
    priority: int = 0
    is_persistent: bool = False
    headers: bytes = b""
    """A table, to be read by read_table(); never written."""


# --- out


def short(text: str | bytes) -> bytes:
    """A short string."""
    data = text.encode() if isinstance(text, str) else text
    return bytes((len(data),)) + data


def table(values: Mapping[str, Any]) -> bytes:
    """A table of strings, integers, booleans and tables, behind its length."""
    data = b"".join(short(name) + _value(value) for name, value in values.items())
    return struct.pack(">I", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        return b"l" + struct.pack(">q", value)
    if isinstance(value, Mapping):
        return b"F" + table(value)
    data = str(value).encode()
    return b"S" + struct.pack(">I", len(data)) + data


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One frame."""
    return _frame_head(kind, channel, len(payload)) + payload + _END


def method(channel: int, number: int, arguments: bytes = b"") -> bytes:
    """The frame of a method."""
    return frame(METHOD, channel, number.to_bytes(4, "big") + arguments)


def content(channel: int, head: bytes, properties: Properties, body: bytes, frame_max: int) -> list[Piece]:
    """The frames of a message, in pieces; `head` is that of the publish method."""
    flags = _CONTENT_TYPE | _MESSAGE_ID
    packed = short(properties.content_type)
    if properties.is_persistent:
        flags |= _DELIVERY_MODE
        packed += b"\x02"
    if properties.priority:
        flags |= _PRIORITY
        packed += bytes((properties.priority,))
    if properties.expiration:
        flags |= _EXPIRATION
        packed += short(str(properties.expiration))
    packed += short(properties.message_id)
    header = frame(HEADER, channel, _content_head(_BASIC_CLASS, len(body), flags) + packed)
    size = frame_max - 8
    if len(body) <= size:
        return [b"".join((head, header, _frame_head(BODY, channel, len(body)), body, _END)) if body else head + header]
    # By views: each copy of so much is memory to ask the system for, which took longer than the rest.
    view = memoryview(body)
    pieces: list[Piece] = [head, header]
    for start in range(0, len(body), size):
        piece = view[start : start + size]
        pieces += (_frame_head(BODY, channel, len(piece)), piece, _END)
    return pieces


# --- in


class Malformed(Exception):
    """What came is not AMQP 0-9-1."""

    def __init__(self) -> None:
        super().__init__("what came is not AMQP 0-9-1")


# RabbitMQ's max_message_size cannot be set to more.
_LARGEST_BODY = 2**29
# The smallest frame that AMQP 0-9-1 lets a broker insist on.
_SMALLEST_FRAME = 4_096
_MOST_NESTED = 50


def read_index(data: bytes) -> int:
    """Which method it is."""
    if len(data) < 4:
        raise Malformed
    index: int = _read_index(data)[0]
    return index


def read_settled(data: bytes) -> tuple[int, int]:
    """The tag of an ack or a nack, and its bits."""
    return _tag_at(data, 4)


def _tag_at(data: bytes, position: int) -> tuple[int, int]:
    if len(data) < position + 9:
        raise Malformed
    tag, bits = _read_tag(data, position)
    return tag, bits


def read_delivery(data: bytes, *, has_consumer: bool) -> tuple[bytes, int, int, bytes, bytes]:
    """Of a deliver or a get-ok: consumer, tag, whether it is redelivered, exchange, routing key."""
    consumer, position = read_short(data, 4) if has_consumer else (b"", 4)
    tag, redelivered = _tag_at(data, position)
    exchange, position = read_short(data, position + 9)
    return consumer, tag, redelivered, exchange, read_short(data, position)[0]


def read_declared(data: bytes) -> tuple[int, int]:
    """How many messages and consumers a queue has."""
    _, position = read_short(data, 4)
    if len(data) < position + 8:
        raise Malformed
    messages, consumers = _read_counts(data, position)
    return messages, consumers


def read_tune(data: bytes) -> tuple[int, int, int]:
    """The most channels, the largest frame and the heartbeat that a broker wants; 0 where it does not care."""
    if len(data) < 12:
        raise Malformed
    channels, frame_max, heartbeat = _read_limits(data, 4)
    if 0 < frame_max < _SMALLEST_FRAME:
        raise Malformed
    return channels, frame_max, heartbeat


def read_short(data: bytes, position: int) -> tuple[bytes, int]:
    """A short string, and where it ends."""
    if position >= len(data):
        raise Malformed
    end = position + 1 + data[position]
    if end > len(data):
        raise Malformed
    return data[position + 1 : end], end


def _read_long(data: bytes, position: int) -> tuple[bytes, int]:
    """A long string, and where it ends."""
    end = position + 4 + int.from_bytes(data[position : position + 4], "big")
    if position + 4 > len(data) or end > len(data):
        raise Malformed
    return data[position + 4 : end], end


def read_content_header(data: bytes) -> tuple[int, Properties]:
    """The size of a message's body, and its properties."""
    if len(data) < 14:
        raise Malformed
    size, flags = _read_content_head(data, 4)
    if size > _LARGEST_BODY:
        raise Malformed
    position = 14
    found: dict[int, bytes] = {}
    for flag in (_CONTENT_TYPE, _ENCODING):
        if flags & flag:
            found[flag], position = read_short(data, position)
    headers = b""
    if flags & _HEADERS:
        begin = position
        _, position = _read_long(data, begin)
        headers = data[begin:position]
    # One byte each.
    position += bool(flags & _DELIVERY_MODE) + bool(flags & _PRIORITY)
    for flag in (_CORRELATION_ID, _REPLY_TO, _EXPIRATION, _MESSAGE_ID):
        if flags & flag:
            found[flag], position = read_short(data, position)
    properties = Properties(found.get(_CONTENT_TYPE, b""), found.get(_MESSAGE_ID, b""), headers=headers)
    return size, properties


_FIXED = {kind: struct.Struct(form) for kind, form in {
    "t": ">?", "b": ">b", "B": ">B", "U": ">h", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q",
    "f": ">f", "d": ">d", "T": ">Q",
}.items()}  # fmt: skip


def read_table(data: bytes) -> dict[str, Any]:
    """A table that stands behind its length."""
    return _pairs(_read_long(data, 0)[0], _MOST_NESTED)


def _pairs(data: bytes, depth: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    position = 0
    while position < len(data):
        name, position = read_short(data, position)
        values[name.decode(errors="replace")], position = _read_value(data, position, depth)
    return values


def _read_value(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    kind = chr(data[position]) if position < len(data) else ""
    position += 1
    if kind in _FIXED:
        form = _FIXED[kind]
        if position + form.size > len(data):
            raise Malformed
        return form.unpack_from(data, position)[0], position + form.size
    if kind == "V":
        return None, position
    if kind == "D":
        return None, position + 5
    if not kind or kind not in "SxAF" or not depth:
        raise Malformed
    # Cut out: what is inside cannot reach beyond it, and be read again.
    inner, end = _read_long(data, position)
    if kind == "F":
        return _pairs(inner, depth - 1), end
    if kind != "A":
        return inner.decode(errors="replace"), end
    items, position = [], 0
    while position < len(inner):
        item, position = _read_value(inner, position, depth - 1)
        items.append(item)
    return items, end
