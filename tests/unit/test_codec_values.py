"""What send() takes, every receiver can read: values whose types say odd things of themselves, in both formats."""

import collections
import dataclasses
import datetime
import decimal
import enum
import math
import types
import uuid
import zoneinfo
from typing import Any, NamedTuple

import msgspec
import pytest
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from django.utils.functional import SimpleLazyObject, lazy, lazystr
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.codec import Codec
from channels_trunk.codec.encryption import make_cipher
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import EncodeError

MSGPACK = Codec(serializer_format="msgpack", cipher=None)
JSON = Codec(serializer_format="json", cipher=None)
SEALED = Codec(serializer_format="msgpack", cipher=make_cipher(["key"]))
EITHER = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])


class OddDatetime(datetime.datetime):
    def isoformat(self, *_: Any, **__: Any) -> str:
        return "on a fine day"

    def __str__(self) -> str:
        return "some day"


class NotATime(OddDatetime):
    """As pandas' NaT: a datetime that is none, which shows in that it is not like itself."""

    __hash__ = None  # type: ignore[assignment]
    year = math.nan  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True


class OddDate(datetime.date):
    def isoformat(self) -> str:
        return "today"


class OddTime(datetime.time):
    def isoformat(self, *_: Any, **__: Any) -> str:
        return "noon"


class OddDelta(datetime.timedelta):
    days = "many"  # type: ignore[assignment]

    def __str__(self) -> str:
        return "long"


class OddUUID(uuid.UUID):
    def __str__(self) -> str:
        return "me"


class OddDecimal(decimal.Decimal):
    def __str__(self) -> str:
        return "much"


class OddInt(int):
    def __int__(self) -> int:
        return 2**70

    def __index__(self) -> int:
        raise ZeroDivisionError


class OddFloat(float):
    def __float__(self) -> float:
        return math.nan


class OddBytes(bytes):
    def __bytes__(self) -> bytes:
        return b"others"


class OddStr(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "\ud800"

    def encode(self, *_: Any, **__: Any) -> bytes:
        raise ZeroDivisionError


class OddDict(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return [("other", object())]


class OddList(list):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 100


class Colour(enum.Enum):
    RED = datetime.date(2026, 1, 2)


class Name(enum.Enum):
    K = "k"


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Data:
    x: int = 1


class Struct(msgspec.Struct):
    x: int = 1


class LikeANumber:
    def __int__(self) -> int:
        return 1

    def __index__(self) -> int:
        return 1


def fails() -> str:
    raise ZeroDivisionError("opensesame")


class OddZone(datetime.tzinfo):
    def __init__(self, offset: datetime.timedelta | None) -> None:
        self._offset = offset

    def utcoffset(self, _dt: datetime.datetime | None) -> datetime.timedelta | None:
        if self._offset is None:
            raise ZeroDivisionError("opensesame")
        return self._offset

    def dst(self, _dt: datetime.datetime | None) -> None:
        return None

    def tzname(self, _dt: datetime.datetime | None) -> None:
        return None


DAY = (2026, 1, 2, 3, 4, 5, 6)
NAIVE = datetime.datetime.fromisoformat("2026-01-02T03:04:05.000006")
FIRST = datetime.datetime.fromisoformat("0001-01-01")
ODD_OFFSET = datetime.timedelta(hours=-7, minutes=13, seconds=17, microseconds=19)

# What is given, what comes back by msgpack, and what by JSON ("": the same as by msgpack).
READABLE: list[tuple[Any, Any, Any]] = [
    (OddDatetime(*DAY), NAIVE, "2026-01-02T03:04:05.000006"),
    (OddDate(2026, 1, 2), datetime.date(2026, 1, 2), "2026-01-02"),
    (OddTime(3, 4), datetime.time(3, 4), "03:04:00"),
    (OddDelta(1, 2, 3), datetime.timedelta(1, 2, 3), "1,2,3"),
    (OddUUID(int=5), uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (OddDecimal("1.50"), decimal.Decimal("1.50"), "1.50"),
    (OddInt(7), 7, ""),
    (OddFloat(1.5), 1.5, ""),
    (OddStr("text"), "text", ""),
    (OddDict(a=OddInt(1)), {"a": 1}, ""),
    (OddList([OddInt(1)]), [1], ""),
    (Colour.RED, datetime.date(2026, 1, 2), "2026-01-02"),
    (Point(1, (2,)), [1, [2]], ""),
    (collections.OrderedDict(b=1), {"b": 1}, ""),
    (collections.defaultdict(list, a=[1]), {"a": [1]}, ""),
    (QueryDict("a=1&a=2"), {"a": ["1", "2"]}, ""),
    (MultiValueDict({"a": [OddStr("x"), OddInt(1)]}), {"a": ["x", 1]}, ""),
    (lazystr("later"), "later", ""),
    (FIRST, FIRST, "0001-01-01T00:00:00"),
    (datetime.datetime(*DAY, tzinfo=OddZone(ODD_OFFSET)), None, "2026-01-02T03:04:05.000006-06:46:42.999981"),
    (datetime.time(3, tzinfo=datetime.timezone(ODD_OFFSET)), None, "03:00:00-06:46:42.999981"),
    (datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
     datetime.datetime.fromisoformat("2026-10-25T02:30:00+01:00"),
     "2026-10-25T02:30:00+01:00"),
    (decimal.Decimal("-sNaN123"), decimal.Decimal("-sNaN123"), "-sNaN123"),
    (decimal.Decimal("-Infinity"), decimal.Decimal("-Infinity"), "-Infinity"),
    (decimal.Decimal("1E+999999"), decimal.Decimal("1E+999999"), "1E+999999"),
    (True, True, ""),
    (2**63 - 1, 2**63 - 1, ""),
]  # fmt: skip


@pytest.mark.parametrize(("value", "plain", "text"), READABLE, ids=lambda value: type(value).__name__)
def test_what_is_accepted_comes_back_as_the_plain_type(value: Any, plain: Any, text: Any) -> None:
    message = {"deep": [{"value": value}]}
    [got] = MSGPACK.unpack(MSGPACK.pack(message))["deep"]
    if plain is None:
        assert got["value"] == value
    else:
        assert repr(got["value"]) == repr(plain)
    assert repr(JSON.unpack(JSON.pack(message))["deep"][0]["value"]) == repr(text or plain)


@pytest.mark.parametrize(
    "value", [OddBytes(b"ab"), bytearray(b"ab"), memoryview(b"a.b.")[::2]], ids=["odd", "array", "view"]
)
def test_bytes_are_what_is_in_them(value: Any) -> None:
    assert MSGPACK.unpack(MSGPACK.pack({"a": value})) == {"a": b"ab"}


REFUSED: list[tuple[Any, str]] = [
    (NotATime(1, 1, 1), "a value of type tests.unit.test_codec_values.NotATime cannot be packed"),
    (datetime.datetime(*DAY, tzinfo=OddZone(None)), "datetime.datetime cannot be packed (ZeroDivisionError)"),
    (SimpleLazyObject(lambda: "text"), "django.utils.functional.SimpleLazyObject cannot be packed"),
    (SimpleLazyObject(lambda: datetime.date(2026, 1, 2)), "django.utils.functional.SimpleLazyObject cannot be packed"),
    (SimpleLazyObject(lambda: {"a": 1}), "django.utils.functional.SimpleLazyObject cannot be packed"),
    (lazy(fails, str)(), "cannot be packed (ZeroDivisionError)"),
    (lazystr("\ud800"), "a string with lone surrogates, which UTF-8 cannot hold"),
    (OddStr("\ud800"), "a string with lone surrogates, which UTF-8 cannot hold"),
    (OddInt(2**70), "an integer outside the signed 64-bit range"),
    (types.MappingProxyType({"a": 1}), "a value of type builtins.mappingproxy cannot be packed"),
    (collections.deque([1]), "a value of type collections.deque cannot be packed"),
    (frozenset((1,)), "a value of type builtins.frozenset cannot be packed"),
    ((number for number in range(3)), "a value of type builtins.generator cannot be packed"),
    (Data(), "Data cannot be packed"),
    (Struct(), "Struct cannot be packed"),
    (LikeANumber(), "LikeANumber cannot be packed"),
    (msgspec.Raw(b"\x01"), "msgspec.Raw cannot be packed"),
    (msgspec.msgpack.Ext(99, b""), "Ext cannot be packed"),
    ({Name.K: 1, "k": 2}, "two keys are the same string"),
]  # fmt: skip


@EITHER
@pytest.mark.parametrize(("value", "text"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_is_refused_names_the_path(codec: Codec, value: Any, text: str) -> None:
    for message, path in (({"a": [1, {"b": value}]}, "message['a'][1]['b']: "), ({"a": value}, "message['a']: ")):
        with pytest.raises(EncodeError) as caught:
            codec.pack(message)
        assert str(caught.value).startswith(path)
        assert text in str(caught.value)
        assert "opensesame" not in str(caught.value)
        if isinstance(value, types.GeneratorType):
            return


@EITHER
def test_a_lazy_object_that_fails_is_refused_by_its_path(codec: Codec) -> None:
    for message, text in (
        (
            {"a": SimpleLazyObject(fails)},
            r"message\['a'\]: a value of type django\.utils\.functional\.SimpleLazyObject",
        ),
        ({"a": {SimpleLazyObject(lambda: 5): 1}}, r"message\['a'\]: key <SimpleLazyObject: 5> is not a string"),
    ):
        with pytest.raises(EncodeError, match=text):
            codec.pack(message)


# --- any values whatever: refused at send(), or read by every receiver

_TEXT = st.text(max_size=5)
_OFFSETS = st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(datetime.timezone)
_PLAIN: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), _TEXT, st.binary(max_size=5),
    st.datetimes(timezones=st.none() | _OFFSETS), st.dates(), st.times(timezones=st.none() | _OFFSETS),
    st.timedeltas(), st.uuids(), st.decimals(), st.sampled_from([*Colour, 1j, object(), {1, 2}]),
)  # fmt: skip
_ODD: st.SearchStrategy[Any] = st.one_of(
    st.datetimes().map(lambda at: OddDatetime(*at.timetuple()[:6], at.microsecond)),
    st.datetimes().map(lambda at: NotATime(*at.timetuple()[:6])),
    st.dates().map(lambda day: OddDate(day.year, day.month, day.day)),
    st.integers(-(2**65), 2**65).map(OddInt), st.floats().map(OddFloat), _TEXT.map(OddStr),
    st.binary(max_size=5).map(OddBytes),
    st.decimals().map(OddDecimal), _TEXT.map(lazystr), _TEXT.map(lambda text: SimpleLazyObject(lambda: text)),
)  # fmt: skip
_KEYS = st.one_of(_TEXT, _TEXT.map(OddStr), _TEXT.map(lazystr), st.integers())
_VALUES = st.recursive(
    _PLAIN | _ODD,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.lists(inner, max_size=3).map(OddList),
        st.dictionaries(_KEYS, inner, max_size=3), st.dictionaries(_TEXT, inner, max_size=3).map(OddDict),
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(_TEXT, _VALUES, max_size=4))
def test_what_is_accepted_can_be_read(message: dict[str, Any]) -> None:
    for sender, receiver in ((MSGPACK, MSGPACK), (JSON, JSON), (SEALED, SEALED), (JSON, MSGPACK)):
        try:
            body = sender.pack(message)
        except EncodeError:
            continue
        frame = sender.encode_frame("node", [Envelope(Kind.QUEUE, "jobs", 5.0, body)])
        _, [envelope] = receiver.decode_frame(frame)
        got = receiver.unpack(envelope.body)
        assert type(got) is dict
        # What came out is of plain types, and so goes on as it is.
        assert repr(receiver.unpack(receiver.pack(got))) == repr(got)
