"""AMQP 0-9-1 as bytes: what this package says and hears of it. Pure, and written for the two messages that are hot."""

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
    "Method",
    "Piece",
    "Properties",
    "content",
    "frame",
    "method",
    "read_content_header",
    "read_short",
    "read_table",
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


def read_short(data: bytes, position: int) -> tuple[bytes, int]:
    """A short string, and where it ends."""
    end = position + 1 + data[position]
    return data[position + 1 : end], end


def read_content_header(data: bytes) -> tuple[int, Properties]:
    """The size of a message's body, and its properties."""
    size, flags = _read_content_head(data, 4)
    position = 14
    found: dict[int, bytes] = {}
    for flag in (_CONTENT_TYPE, _ENCODING):
        if flags & flag:
            found[flag], position = read_short(data, position)
    headers = b""
    if flags & _HEADERS:
        end = position + 4 + int.from_bytes(data[position : position + 4], "big")
        headers, position = data[position:end], end
    # One byte each.
    position += bool(flags & _DELIVERY_MODE) + bool(flags & _PRIORITY)
    for flag in (_CORRELATION_ID, _REPLY_TO, _EXPIRATION, _MESSAGE_ID):
        if flags & flag:
            found[flag], position = read_short(data, position)
    properties = Properties(found.get(_CONTENT_TYPE, b""), found.get(_MESSAGE_ID, b""), headers=headers)
    return size, properties


_FIXED = {
    "t": ">?", "b": ">b", "B": ">B", "U": ">h", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q",
    "f": ">f", "d": ">d", "T": ">Q",
}  # fmt: skip


def read_table(data: bytes) -> dict[str, Any]:
    """A table that stands behind its length."""
    return _read_table(data, 0)[0]


def _read_table(data: bytes, position: int) -> tuple[dict[str, Any], int]:
    end = position + 4 + int.from_bytes(data[position : position + 4], "big")
    position += 4
    values: dict[str, Any] = {}
    while position < end:
        name, position = read_short(data, position)
        values[name.decode(errors="replace")], position = _read_value(data, position)
    return values, end


def _read_value(data: bytes, position: int) -> tuple[Any, int]:
    kind = chr(data[position])
    position += 1
    if kind in _FIXED:
        form = struct.Struct(_FIXED[kind])
        return form.unpack_from(data, position)[0], position + form.size
    if kind == "F":
        return _read_table(data, position)
    if kind == "V":
        return None, position
    if kind == "D":
        return None, position + 5
    if kind not in "SxA":
        raise ValueError(f"a value of the unknown type {kind!r}")
    end = position + 4 + int.from_bytes(data[position : position + 4], "big")
    if kind != "A":
        return data[position + 4 : end].decode(errors="replace"), end
    position += 4
    items = []
    while position < end:
        item, position = _read_value(data, position)
        items.append(item)
    return items, end
