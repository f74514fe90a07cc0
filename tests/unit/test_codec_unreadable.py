"""Bytes that no codec wrote: whatever they are, they are a DecodeError, and nothing that a reader does not expect."""

import contextlib
import struct
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.clock import SYSTEM_CLOCK
from channels_trunk.codec import BaseMessageSerializer, Codec
from channels_trunk.codec.codec import FRAME_VERSION
from channels_trunk.codec.encryption import make_cipher
from channels_trunk.envelope import Control, Envelope, Kind
from channels_trunk.exceptions import DecodeError, EncodeError
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.frames import claimed_message, envelopes_for_node
from channels_trunk.transports.rabbitmq.foreign import read_plain

PLAIN = Codec(serializer_format="msgpack", cipher=None)
JSON = Codec(serializer_format="json", cipher=None)
SEALED = Codec(serializer_format="msgpack", cipher=make_cipher(["key"]))
HEAD = bytes((FRAME_VERSION, 0, 4)) + b"asgi"
DEEP = b"\x91" * 20_000 + b"\xc0"


def envelope(expires_at: bytes, rest: bytes = b"") -> bytes:
    fields = 4 + bool(rest)
    return bytes((0x90 + fields, Kind.GROUP)) + b"\xa1r" + expires_at + b"\xc4\x01x" + rest


def frame(*envelopes: bytes, form: bytes = b"\xa7msgpack", rest: bytes = b"") -> bytes:
    fields = 3 + bool(rest)
    return (
        HEAD + bytes((0x90 + fields,)) + b"\xa1n" + form + bytes((0x90 + len(envelopes),)) + b"".join(envelopes) + rest
    )


def double(value: float) -> bytes:
    return b"\xcb" + struct.pack(">d", value)


FRAMES = {
    "nested where a later version says more": frame(rest=DEEP),
    "nested in an envelope": frame(envelope(double(5.0), rest=DEEP)),
    "expires at no number": frame(envelope(double(float("nan")))),
    "expires never": frame(envelope(double(float("inf")))),
    "expires before all time": frame(envelope(double(float("-inf")))),
    "four thousand million envelopes": HEAD + b"\x93\xa1n\xa7msgpack\xdd\xff\xff\xff\xff",
    "a body of four gigabytes": HEAD + b"\x93\xa1n\xc6\xff\xff\xff\xff",
    "a name that is no UTF-8": HEAD + b"\x93\xa1\xff\xa7msgpack\x90",
    "another format, nested": frame(
        b"\x94\x01\xa1r" + double(5.0) + msgspec.msgpack.encode(b'{"a":' + b"[" * 20_000), form=b"\xa4json"
    ),
    "an unknown format": frame(form=b"\xa4xxxx"),
    "sealed junk": bytes((FRAME_VERSION, 1)) + b"\xff" * 100,
}


class Sink:
    """Counts what was skipped; the rest of the contract is not used."""

    def __init__(self) -> None:
        self.skips: list[Exception] = []

    def skipped(self, error: Exception) -> None:
        self.skips.append(error)


def context(codec: Codec) -> tuple[NodeContext, Sink]:
    sink = Sink()
    return NodeContext("tk" + "a" * 16, "asgi", codec, sink, SYSTEM_CLOCK, lambda _channel: 100), sink  # type: ignore[arg-type]


@pytest.mark.parametrize("data", FRAMES.values(), ids=FRAMES.keys())
@pytest.mark.parametrize("codec", [PLAIN, SEALED], ids=["plain", "sealed"])
def test_one_frame_is_skipped_and_counted_by_all_readers_of_frames(codec: Codec, data: bytes) -> None:
    if codec is SEALED and data.startswith(HEAD):
        # What was sealed with the right key may be anything, too: by another version, or damaged before.
        data = bytes((FRAME_VERSION, 1)) + make_cipher(["key"]).encrypt(data[2:])  # type: ignore[union-attr]
    with pytest.raises(DecodeError):
        codec.decode_frame(data)
    node, sink = context(codec)
    assert envelopes_for_node(node, data) == []
    assert claimed_message(node, "jobs", 5.0, data) is None
    assert len(sink.skips) == 2


@given(st.binary(max_size=300))
def test_no_bytes_are_anything_else(junk: bytes) -> None:
    for head in (b"", HEAD[:2], HEAD, HEAD + b"\x93\xa1n\xa7msgpack\x91\x94", HEAD + b"\x93\xa1n\xa4json\x91\x94"):
        for codec in (PLAIN, JSON, SEALED):
            try:
                origin, envelopes = codec.decode_frame(head + junk)
            except DecodeError:
                continue
            assert isinstance(origin, str)
            assert all(abs(found.expires_at) <= sys.float_info.max for found in envelopes)
    with contextlib.suppress(DecodeError):
        assert isinstance(PLAIN.unpack_control(junk), Control)
    with contextlib.suppress(DecodeError):
        assert isinstance(read_plain(junk, codec=PLAIN, expires_at=5.0), Envelope)


# Bytes that are nearly what they should be find more than random ones: msgpack of any values, cut and changed.
_ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=9)
    | st.text(max_size=9)
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=20)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except UnicodeEncodeError:
        return b"\xc0"


@given(_ANY, st.integers(0, 400), st.integers(0, 255))
def test_nothing_that_is_nearly_a_frame_is_anything_else(value: Any, place: int, byte: int) -> None:
    data = bytearray(_encoded(("n", "msgpack", value)))
    if place < len(data):
        data[place] = byte
    for content in (bytes(data), _encoded(value), _encoded(("n", "json", [(1, "r", 5.0, _encoded(value))]))):
        with contextlib.suppress(DecodeError):
            PLAIN.decode_frame(HEAD + content)
    for read in (PLAIN.unpack_control, lambda body: read_plain(body, codec=PLAIN, expires_at=5.0)):
        with contextlib.suppress(DecodeError):
            read(bytes(data))


def test_a_control_envelope_that_is_nested_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match=r"^malformed control envelope: RecursionError$"):
        PLAIN.unpack_control(b"\x97\x04\xa1n\x07\xa0\xa0\x00" + DEEP)


class Unpicklable(BaseMessageSerializer):
    def as_bytes(self, message: dict[str, Any]) -> bytes:
        raise ZeroDivisionError("opensesame")


@pytest.mark.parametrize("body", [DEEP, b"\x81\x91\x01\x02", b"\x81\xa1a\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" * 8])
def test_a_message_of_another_program_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        read_plain(body, codec=PLAIN, expires_at=5.0)


def test_a_message_of_another_program_that_ones_own_serializer_does_not_take_is_a_decode_error() -> None:
    codec = Codec(serializer_format="msgpack", cipher=None)
    codec._serializer = Unpicklable()
    with pytest.raises(DecodeError, match="holds what cannot be packed"):
        read_plain(msgspec.msgpack.encode({"__asgi_group__": "g", "a": 1}), codec=codec, expires_at=5.0)


# --- what the decoder would not take, the encoder refuses


def nested(levels: int, *, kind: type = list) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels - 1):
        value = [value] if kind is list else {"k": value}
    return {"a": value}


@pytest.mark.parametrize("codec", [PLAIN, JSON], ids=["msgpack", "json"])
@pytest.mark.parametrize("kind", [list, dict])
def test_nesting_has_a_limit_that_every_receiver_can_read(codec: Codec, kind: type) -> None:
    message = nested(100, kind=kind)
    body = codec.pack(message)

    def read_on_a_deep_stack(depth: int) -> Any:
        return read_on_a_deep_stack(depth - 1) if depth else codec.unpack(body)

    assert read_on_a_deep_stack(500) == message
    with pytest.raises(EncodeError, match=r"^message\['a'\].*\.\.\.: nested deeper than 100 levels, or a container"):
        codec.pack(nested(101, kind=kind))
