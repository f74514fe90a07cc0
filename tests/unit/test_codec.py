"""Bodies and frames: what goes in comes out, and what is malformed is nothing worse than a DecodeError."""

import datetime
import decimal
import enum
import struct
import uuid
from typing import Any

import msgspec
import pytest
from django.db.models import TextChoices
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.codec import Codec
from channels_trunk.codec.codec import FRAME_VERSION, SEALED_VERSION
from channels_trunk.envelope import Control, ControlOp, Envelope, Kind
from channels_trunk.exceptions import DecodeError, EncodeError

MSGPACK = Codec(serializer_format="msgpack", cipher=None)
JSON = Codec(serializer_format="json", cipher=None)
EITHER = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])

# The specification's types. JSON has no byte strings.
_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_JSON_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), _TEXT
)


def _messages(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    values = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4), max_leaves=20
    )
    return st.dictionaries(_TEXT, values, max_size=6)


def _same(left: Any, right: Any) -> bool:
    """Equal, and of equal types all the way down (True == 1 == 1.0 otherwise)."""
    return repr(left) == repr(right)


# --- messages


@given(_messages(st.one_of(_JSON_SCALARS, st.binary(), st.floats())))
def test_every_message_of_the_specification_survives_msgpack(message: dict[str, Any]) -> None:
    assert _same(MSGPACK.unpack(MSGPACK.pack(message)), message)


@given(_messages(_JSON_SCALARS))
def test_every_message_without_byte_strings_survives_json(message: dict[str, Any]) -> None:
    assert _same(JSON.unpack(JSON.pack(message)), message)


@EITHER
def test_each_receiver_has_a_copy_of_its_own(codec: Codec) -> None:
    body = codec.pack({"type": "x", "list": [1]})
    first, second = codec.unpack(body), codec.unpack(body)
    first["list"].append(2)

    assert second == {"type": "x", "list": [1]}


class Colour(TextChoices):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Weight(float):
    def __repr__(self) -> str:
        return "heavy"


class Named(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another text"


@EITHER
@pytest.mark.parametrize(
    ("given_value", "plain"),
    [
        (mark_safe("<b>"), "<b>"),
        (lazystr("later"), "later"),
        (Colour.RED, "red"),
        (Number.ONE, 1),
        (Weight(1.5), 1.5),
        (Named("text"), "text"),
        (("a", (1,)), ["a", [1]]),
        ({Colour.RED: Colour.RED}, {"red": "red"}),
        ({mark_safe("k"): [mark_safe("v")]}, {"k": ["v"]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_django_hands_out_becomes_plain(codec: Codec, given_value: Any, plain: Any) -> None:
    message = {"type": "x", "deep": [{"value": given_value}]}

    assert _same(codec.unpack(codec.pack(message)), {"type": "x", "deep": [{"value": plain}]})
    assert message["deep"][0]["value"] is given_value  # type: ignore[index]


RICH: list[tuple[Any, str]] = [
    (datetime.datetime.fromisoformat("2026-01-02T03:04:05.000678"), "2026-01-02T03:04:05.000678"),
    (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00+00:00"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.time(3, 4, 5), "03:04:05"),
    (datetime.timedelta(days=-1, microseconds=7), "-1,0,7"),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (decimal.Decimal("1.50"), "1.50"),
    (decimal.Decimal("NaN"), "NaN"),
]


@pytest.mark.parametrize(("value", "shown"), RICH, ids=str)
def test_rich_types_come_back_as_themselves_by_msgpack_and_as_text_by_json(value: Any, shown: str) -> None:
    message = {"deep": [{"value": value}]}

    assert _same(MSGPACK.unpack(MSGPACK.pack(message)), message)
    assert JSON.unpack(JSON.pack(message)) == {"deep": [{"value": shown}]}


@pytest.mark.parametrize("value", [bytearray(b"ab"), memoryview(b"ab")], ids=["bytearray", "memoryview"])
def test_kinds_of_byte_strings_become_bytes(value: Any) -> None:
    assert MSGPACK.unpack(MSGPACK.pack({"a": value})) == {"a": b"ab"}


class Secret:
    def __repr__(self) -> str:
        return "opensesame"


_circle: list[Any] = []
_circle.append(_circle)

UNPACKABLE: list[tuple[dict[Any, Any], str]] = [
    ({"a": [{"b": Secret()}]}, "message['a'][0]['b']: a value of type "),
    ({"a": {1, 2}}, "message['a']: a value of type builtins.set cannot be packed"),
    ({"a": lambda: None}, "message['a']: a value of type builtins.function cannot be packed"),
    ({"a": 1j}, "message['a']: a value of type builtins.complex cannot be packed"),
    ({"a": [0, 2**64]}, "message['a'][1]: an integer outside the signed 64-bit range"),
    ({"a": -(2**63) - 1}, "message['a']: an integer outside the signed 64-bit range"),
    ({"a": "\ud800"}, "message['a']: a string with lone surrogates, which UTF-8 cannot hold"),
    ({"a": {"\ud800": 1}}, "message['a']: a string with lone surrogates, which UTF-8 cannot hold"),
    ({5: 1}, "message: key 5 is not a string"),
    ({"a": {None: 1}}, "message['a']: key None is not a string"),
    ({"a": {b"k": 1}}, "message['a']: key b'k' is not a string"),
    (
        {"a": _circle},
        "message['a']" + "[0]" * 19 + "...: nested deeper than 100 levels, or a container that holds itself",
    ),
]


@EITHER
@pytest.mark.parametrize(
    ("message", "text"), UNPACKABLE, ids=lambda value: value[:40] if isinstance(value, str) else ""
)
def test_what_cannot_be_packed_is_a_type_error_with_its_path(codec: Codec, message: dict[Any, Any], text: str) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.pack(message)

    assert isinstance(caught.value, TypeError)
    assert str(caught.value).startswith(text)
    assert "opensesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"x", "byte strings cannot be sent with serializer_format 'json'; use 'msgpack'"),
        (float("nan"), "nan cannot be sent with serializer_format 'json'; use 'msgpack'"),
        (float("-inf"), "-inf cannot be sent with serializer_format 'json'; use 'msgpack'"),
    ],
    ids=["bytes", "nan", "inf"],
)
def test_what_json_has_no_form_for_is_refused_and_not_changed(value: Any, text: str) -> None:
    with pytest.raises(EncodeError) as caught:
        JSON.pack({"a": [1, {"b": value}]})

    assert str(caught.value) == f"message['a'][1]['b']: {text}"


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])
@pytest.mark.parametrize("body", [b"", b"\xc1", b"[1]", b"\x93\x01\x02\x03", b"\x81\x01\x02", b'{"a"', b"5", b"\xff"])
def test_a_malformed_body_is_an_error_and_no_message(codec: Codec, body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        codec.unpack(body)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 99, -1])
def test_a_malformed_rich_value_is_an_error(code: int) -> None:
    body = msgspec.msgpack.encode({"a": msgspec.msgpack.Ext(code, b"no such thing")})

    with pytest.raises((ValueError, decimal.InvalidOperation)):
        MSGPACK.unpack(body)


# --- frames

_ENVELOPES = st.lists(
    st.builds(
        Envelope,
        st.sampled_from(list(Kind)).map(int),
        _TEXT,
        st.floats(allow_nan=False, allow_infinity=False),
        st.binary(max_size=50),
    ),
    max_size=5,
)
ONE = [Envelope(Kind.GROUP, "room", 5.0, MSGPACK.pack({"type": "x", "n": 1}))]
FRAME = MSGPACK.encode_frame("node", ONE)
HEAD = bytes((FRAME_VERSION, 0, 4)) + b"asgi"


@given(_TEXT, _ENVELOPES)
def test_a_frame_carries_origin_and_envelopes(origin: str, envelopes: list[Envelope]) -> None:
    assert MSGPACK.decode_frame(MSGPACK.encode_frame(origin, envelopes)) == (origin, envelopes)


@pytest.mark.parametrize("size", [10_000, 20_000, 1_000_000])
def test_a_large_frame_is_decoded_as_a_small_one(size: int) -> None:
    """It is not copied first."""
    envelopes = [Envelope(Kind.MAILBOX, "c", 1.0, bytes(size)), Envelope(Kind.MAILBOX, "d", 2.0, b"x")]
    frame = MSGPACK.encode_frame("node", envelopes)
    assert MSGPACK.decode_frame(frame) == ("node", envelopes)
    with pytest.raises(DecodeError, match=r"^malformed frame: "):
        MSGPACK.decode_frame(frame[:-1])


@given(st.binary(max_size=200))
def test_random_bytes_are_a_decode_error(junk: bytes) -> None:
    with pytest.raises(DecodeError):
        MSGPACK.decode_frame(junk)


@given(st.binary(max_size=200))
def test_random_bytes_behind_a_good_head_are_a_decode_error(junk: bytes) -> None:
    with pytest.raises(DecodeError):
        MSGPACK.decode_frame(bytes((FRAME_VERSION, 0)) + junk)
    with pytest.raises(DecodeError):
        MSGPACK.decode_frame(HEAD + junk)


def test_every_truncated_frame_is_a_decode_error() -> None:
    for length in range(len(FRAME)):
        with pytest.raises(DecodeError):
            MSGPACK.decode_frame(FRAME[:length])


@given(st.lists(st.tuples(st.integers(0, len(FRAME) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_frame_with_changed_bytes_decodes_or_is_a_decode_error(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(FRAME)
    for place, value in changes:
        damaged[place] = value
    try:
        origin, envelopes = MSGPACK.decode_frame(bytes(damaged))
    except DecodeError:
        return
    assert isinstance(origin, str)
    assert all(isinstance(envelope, Envelope) for envelope in envelopes)


@pytest.mark.parametrize("version", [0, SEALED_VERSION + 1, 255])
def test_an_unknown_version_is_named(version: int) -> None:
    with pytest.raises(DecodeError, match=f"^frame of version {version}; this channels-trunk reads versions 1 and 2$"):
        MSGPACK.decode_frame(bytes((version,)) + FRAME[1:])


@pytest.mark.parametrize("junk", [None, 5, 1.5, "text", bytearray(FRAME), [FRAME]])
def test_what_is_not_bytes_is_a_decode_error(junk: Any) -> None:
    with pytest.raises(DecodeError, match=r"^malformed frame: too short$"):
        MSGPACK.decode_frame(junk)


def test_an_unknown_encryption_byte_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match=r"^malformed frame: encryption byte 7 in version 1$"):
        MSGPACK.decode_frame(bytes((FRAME_VERSION, 7)) + FRAME[2:])
    with pytest.raises(DecodeError, match=r"^malformed frame: encryption byte 0 in version 2$"):
        MSGPACK.decode_frame(bytes((SEALED_VERSION, 0)) + FRAME[2:])


@pytest.mark.parametrize(
    "content",
    [
        {"origin": "n"},
        ["n", "msgpack"],
        ["n", "msgpack", [["kind", "room", 5.0, b""]]],
        ["n", "msgpack", [[1, "room", "soon", b""]]],
        ["n", "msgpack", [[1, 5, 5.0, b""]]],
        ["n", "msgpack", [[1, "room", 5.0, "text"]]],
        [5, "msgpack", []],
        ["n", None, []],
        ["n", "msgpack", None],
    ],
)
def test_a_frame_of_another_shape_is_a_decode_error(content: Any) -> None:
    with pytest.raises(DecodeError, match=r"^malformed frame: "):
        MSGPACK.decode_frame(HEAD + msgspec.msgpack.encode(content))


def test_a_frame_nested_beyond_all_depth_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        MSGPACK.decode_frame(HEAD + b"\x91" * 200_000)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=100))
def test_a_prefix_of_every_kind_is_carried(prefix: str) -> None:
    codec = Codec(serializer_format="msgpack", cipher=None, prefix=prefix)

    assert codec.decode_frame(codec.encode_frame("node", ONE)) == ("node", ONE)


@pytest.mark.parametrize("prefix", ["other", "asg", "asgi2", "x", "x" * 100])
def test_a_frame_of_another_prefix_is_a_decode_error_that_does_not_quote_it(prefix: str) -> None:
    other = Codec(serializer_format="msgpack", cipher=None, prefix=prefix)

    with pytest.raises(DecodeError, match=r"^the frame is not of this layer's prefix, 'asgi'$"):
        MSGPACK.decode_frame(other.encode_frame("node", ONE))


@pytest.mark.parametrize("rest", [b"", b"\x04", b"\x04asg", b"\xff" * 200])
def test_a_prefix_that_is_cut_off_is_a_malformed_frame(rest: bytes) -> None:
    with pytest.raises(DecodeError, match=r"^malformed frame: too short$"):
        MSGPACK.decode_frame(bytes((FRAME_VERSION, 0)) + rest)


# --- another serializer_format


def test_messages_of_another_format_are_translated() -> None:
    frame = JSON.encode_frame("node", [Envelope(Kind.GROUP, "room", 5.0, JSON.pack({"type": "x", "n": [1, None]}))])

    origin, [envelope] = MSGPACK.decode_frame(frame)

    assert (origin, envelope.kind, envelope.target, envelope.expires_at) == ("node", Kind.GROUP, "room", 5.0)
    assert MSGPACK.unpack(envelope.body) == {"type": "x", "n": [1, None]}


def test_control_envelopes_are_not_of_any_format() -> None:
    control = Control(ControlOp.JOIN, "other", 5, "a!b", "room", 3)
    frame = JSON.encode_frame("node", [Envelope(Kind.CONTROL, "*", 5.0, JSON.pack_control(control))])

    _, [envelope] = MSGPACK.decode_frame(frame)

    assert MSGPACK.unpack_control(envelope.body) == control


def test_what_the_own_format_cannot_hold_is_a_decode_error_that_shows_nothing_of_the_message() -> None:
    frame = MSGPACK.encode_frame("node", [Envelope(Kind.GROUP, "room", 5.0, MSGPACK.pack({"opensesame": b"x"}))])

    with pytest.raises(DecodeError, match="another serializer_format cannot be repacked") as caught:
        JSON.decode_frame(frame)

    assert "opensesame" not in str(caught.value)


def test_a_malformed_body_of_another_format_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="cannot be repacked"):
        MSGPACK.decode_frame(JSON.encode_frame("node", [Envelope(Kind.GROUP, "room", 5.0, b"opensesame")]))


def test_an_unknown_format_is_named() -> None:
    frame = HEAD + msgspec.msgpack.encode(("n", "pickle", ONE))

    with pytest.raises(DecodeError, match=r"^frame of the unknown serializer_format 'pickle'$"):
        MSGPACK.decode_frame(frame)


# --- control envelopes


@given(st.binary(max_size=60))
def test_a_random_control_body_is_a_control_or_a_decode_error(junk: bytes) -> None:
    try:
        control = MSGPACK.unpack_control(junk)
    except DecodeError:
        return
    assert isinstance(control, Control)


def test_a_control_of_a_later_version_may_say_more() -> None:
    body = msgspec.msgpack.encode((ControlOp.DONE, "n", 7, "", "", 0, "what later versions add"))

    assert MSGPACK.unpack_control(body) == Control(ControlOp.DONE, "n", 7)


def test_a_control_with_a_string_that_is_not_utf_8_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        MSGPACK.unpack_control(struct.pack("BBBB", 0x92, 1, 0xA1, 0xFF))
