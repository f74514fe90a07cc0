"""symmetric_encryption_keys: who can read what, and that nobody sees a key."""

import builtins
import hashlib
import logging
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.codec import Codec
from channels_trunk.codec.encryption import make_cipher
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import DecodeError, DecryptError, OptionsError
from channels_trunk.layers import MemoryChannelLayer

BATCH = [Envelope(Kind.GROUP, "the-room", 5.0, b"the message")]


def _codec(*keys: str | bytes) -> Codec:
    return Codec(serializer_format="msgpack", cipher=make_cipher(keys))


def test_what_one_key_closes_it_opens() -> None:
    codec = _codec("key")

    assert codec.decode_frame(codec.encode_frame("n", BATCH)) == ("n", BATCH)


def test_a_frame_shows_nothing_of_message_group_or_node() -> None:
    frame = _codec("key").encode_frame("the-node", BATCH)

    assert b"the message" not in frame
    assert b"the-room" not in frame
    assert b"the-node" not in frame
    assert b"the-room" in _codec().encode_frame("the-node", BATCH)  # so that this test can fail


def test_a_frame_that_was_copied_to_another_prefix_does_not_open_there() -> None:
    def codec(prefix: str) -> Codec:
        return Codec(serializer_format="msgpack", cipher=make_cipher(["key"]), prefix=prefix)

    frame = codec("blue").encode_frame("n", BATCH)

    assert codec("blue").decode_frame(frame) == ("n", BATCH)
    assert b"blue" not in frame
    with pytest.raises(DecodeError, match=r"^the frame is not of this layer's prefix, 'green'$"):
        codec("green").decode_frame(frame)


def test_strings_and_byte_strings_are_the_same_key() -> None:
    assert _codec(b"key").decode_frame(_codec("key").encode_frame("n", BATCH)) == ("n", BATCH)


def test_keys_are_made_as_channels_redis_makes_them() -> None:
    token = _codec("key").encode_frame("n", BATCH)[2:]
    theirs = Fernet(urlsafe_b64encode(hashlib.sha256(b"key").digest()))

    assert theirs.decrypt(token) == b"\x00\x02" + _codec().encode_frame("n", BATCH)[2:]


def test_the_first_key_closes_and_every_key_opens() -> None:
    before, during, after = _codec("old"), _codec("new", "old"), _codec("new")

    assert during.decode_frame(before.encode_frame("n", BATCH)) == ("n", BATCH)
    assert after.decode_frame(during.encode_frame("n", BATCH)) == ("n", BATCH)
    with pytest.raises(DecryptError, match=r"^none of symmetric_encryption_keys opens the frame$"):
        before.decode_frame(during.encode_frame("n", BATCH))


def test_keys_are_rotated_in_two_steps_without_a_frame_lost() -> None:
    # First every process learns the new key behind the old one, then in front of it.
    for left, right in [(["old"], ["old", "new"]), (["old", "new"], ["new", "old"]), (["new", "old"], ["new"])]:
        for sender, reader in [(left, right), (right, left)]:
            assert _codec(*reader).decode_frame(_codec(*sender).encode_frame("n", BATCH)) == ("n", BATCH)


def test_a_layer_without_keys_cannot_read_and_says_why() -> None:
    with pytest.raises(
        DecryptError, match=r"^the frame is encrypted, and this layer has no symmetric_encryption_keys$"
    ):
        _codec().decode_frame(_codec("key").encode_frame("n", BATCH))


def test_a_layer_with_keys_takes_nothing_that_is_not_encrypted() -> None:
    with pytest.raises(
        DecryptError, match=r"^the frame is not encrypted, and this layer has symmetric_encryption_keys$"
    ):
        _codec("key").decode_frame(_codec().encode_frame("n", BATCH))


@given(st.binary(max_size=120))
def test_random_bytes_in_an_envelope_are_a_decrypt_error(junk: bytes) -> None:
    with pytest.raises(DecryptError):
        _codec("key").decode_frame(b"\x01\x01" + junk)
    with pytest.raises(DecryptError):
        _codec("key").decode_frame(b"\x02\x01" + junk)


def test_every_truncated_frame_is_a_decode_error() -> None:
    frame = _codec("key").encode_frame("n", BATCH)
    codec = _codec("key")
    for length in range(len(frame)):
        with pytest.raises(DecodeError):
            codec.decode_frame(frame[:length])


def test_good_encryption_around_rubbish_is_a_decode_error() -> None:
    cipher = make_cipher(["key"])
    assert cipher is not None

    for version in (b"\x01", b"\x02"):
        with pytest.raises(DecodeError, match=r"^malformed frame: "):
            _codec("key").decode_frame(version + b"\x01" + cipher.encrypt(b"rubbish"))


def test_no_keys_no_cipher() -> None:
    assert make_cipher([]) is None


def test_no_error_shows_a_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    codec = _codec("opensesame")

    with pytest.raises(DecryptError) as caught:
        codec.decode_frame(_codec("another").encode_frame("n", BATCH))

    assert "opensesame" not in f"{caught.value!r} {caught.value.__cause__!r} {codec!r} {caplog.text}"


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_cryptography(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "cryptography":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_cryptography)

    with pytest.raises(
        OptionsError, match=r"needs the package cryptography: pip install 'channels-trunk\[cryptography\]'"
    ):
        MemoryChannelLayer(symmetric_encryption_keys=["key"])
