"""The table of values in the API reference: each row, with values of each of its types."""

import datetime
import decimal
import enum
import uuid
from typing import Any

import pytest
from django.db import models
from django.utils.functional import lazystr
from django.utils.safestring import SafeString

from channels_trunk.codec import Codec
from channels_trunk.exceptions import EncodeError
from tests.docs.markdown import table


class Colour(enum.Enum):
    RED = "red"


class Size(models.IntegerChoices):
    LARGE = 3


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


MOMENT = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)
RICH = [
    MOMENT,
    MOMENT.date(),
    MOMENT.time(),
    datetime.timedelta(days=-1, microseconds=7),
    uuid.UUID(int=7),
    decimal.Decimal("1.10"),
]
REFUSED = object()

# For each row of the table: values, and what comes back with msgpack and with json.
ROWS: list[list[tuple[Any, Any, Any]]] = [
    [(value, value, value) for value in ("ä", True, None, 1.5, -(2**63), 2**63 - 1, {"a": [1]}, [1, {"b": 2}])]
    + [(float("inf"), float("inf"), REFUSED)],
    [((1, 2), [1, 2], [1, 2])],
    [(value, b"\xff", REFUSED) for value in (b"\xff", bytearray(b"\xff"), memoryview(b"\xff"))],
    [(value, value, str) for value in RICH],
    [(SafeString("<b>"), "<b>", "<b>"), (Text("t"), "t", "t"), (Whole(7), 7, 7)],
    [(Colour.RED, "red", "red"), (Size.LARGE, 3, 3)],
    [(lazystr("yes"), "yes", "yes")],
]


def test_there_is_a_list_for_every_row() -> None:
    assert len(ROWS) == len(table("docs/reference/api.md", "Messages"))


@pytest.mark.parametrize("format_", ["msgpack", "json"])
@pytest.mark.parametrize("row", range(len(ROWS)))
def test_values_come_back_as_the_table_says(row: int, format_: str) -> None:
    codec = Codec(serializer_format=format_, cipher=None)
    for value, by_msgpack, by_json in ROWS[row]:
        expected = by_msgpack if format_ == "msgpack" else by_json
        if expected is REFUSED:
            with pytest.raises(EncodeError, match="'value'"):
                codec.pack({"value": value})
            continue
        received = codec.unpack(codec.pack({"value": value}))["value"]
        if expected is str:
            assert type(received) is str
        else:
            assert (received, type(received)) == (expected, type(expected))
