"""Parameters and rows in PostgreSQL's binary format."""

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = [
    "Row",
    "Value",
    "bytes_array",
    "encoded",
    "float_array",
    "int_array",
    "rows",
    "text",
    "text_array",
]

_BYTEA, _TEXT, _BIGINT, _FLOAT8 = 17, 25, 20, 701
_TEXT_ARRAY, _BYTEA_ARRAY, _BIGINT_ARRAY, _FLOAT8_ARRAY = 1009, 1001, 1016, 1022
_ARRAY_HEAD = struct.Struct("!iiiii")
_LENGTH = struct.Struct("!i")

Row = tuple[Any, ...]


class Encoded(NamedTuple):
    """The number of a type, and a value of it in PostgreSQL's binary format."""

    oid: int
    data: bytes


def _array(oid: int, item_oid: int, items: Sequence[bytes | None]) -> Encoded:
    parts = [_ARRAY_HEAD.pack(1, int(None in items), item_oid, len(items), 1)]
    for item in items:
        if item is None:
            parts.append(_LENGTH.pack(-1))
        else:
            parts += (_LENGTH.pack(len(item)), item)
    return Encoded(oid, b"".join(parts))


def text(data: bytes) -> Encoded:
    """A text, encoded as UTF-8."""
    return Encoded(_TEXT, data)


def text_array(items: Sequence[str]) -> Encoded:
    """A text[]."""
    return _array(_TEXT_ARRAY, _TEXT, [item.encode() for item in items])


def bytes_array(items: Sequence[bytes]) -> Encoded:
    """A bytea[]."""
    return _array(_BYTEA_ARRAY, _BYTEA, items)


def float_array(items: Sequence[float]) -> Encoded:
    """A float8[]."""
    return _array(_FLOAT8_ARRAY, _FLOAT8, [struct.pack("!d", item) for item in items])


def int_array(items: Sequence[int | None]) -> Encoded:
    """A bigint[]."""
    return _array(_BIGINT_ARRAY, _BIGINT, [None if item is None else struct.pack("!q", item) for item in items])


Bytes = bytes | bytearray | memoryview
Value = str | int | float | Bytes | Encoded | None


def encoded(value: Value) -> tuple[int, bytes | None]:
    """The number of its type, and its bytes."""
    match value:
        case None:
            return 0, None  # of the type that the statement casts it to
        case Encoded():
            return value
        case str():
            return _TEXT, value.encode()
        case bool() | int():
            return _BIGINT, struct.pack("!q", value)
        case float():
            return _FLOAT8, struct.pack("!d", value)
        case _:
            return _BYTEA, bytes(value)


def data_of(values: Sequence[Value]) -> list[bytes | None]:
    """Their bytes."""
    return [value[1] if value.__class__ is Encoded else encoded(value)[1] for value in values]


def _int_items(data: bytes) -> list[int]:
    """A bigint[] of one dimension or none, without NULLs."""
    if len(data) < _ARRAY_HEAD.size:
        return []
    count = _ARRAY_HEAD.unpack_from(data)[3]
    return [struct.unpack_from("!q", data, _ARRAY_HEAD.size + _LENGTH.size + index * 12)[0] for index in range(count)]


_DECODERS: dict[int, Callable[[bytes], Any]] = {
    16: lambda data: data == b"\x01",
    17: lambda data: data,
    20: lambda data: struct.unpack("!q", data)[0],
    21: lambda data: struct.unpack("!h", data)[0],
    23: lambda data: struct.unpack("!i", data)[0],
    26: lambda data: struct.unpack("!I", data)[0],
    701: lambda data: struct.unpack("!d", data)[0],
    _BIGINT_ARRAY: _int_items,
}


def rows(result: Any) -> list[Row]:
    """What a statement returned."""
    decoders = [_DECODERS.get(result.ftype(column), _text) for column in range(result.nfields)]
    return [
        tuple(
            None if (data := result.get_value(row, column)) is None else decode(data)
            for column, decode in enumerate(decoders)
        )
        for row in range(result.ntuples)
    ]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
