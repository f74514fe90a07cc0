"""The codec of one layer: bodies for messages, frames for batches of envelopes.

A frame is one version byte, one byte that says whether the rest is encrypted, and the batch: the layer's prefix behind
its length, and a msgpack array of the sending node's id, its serializer format, and the envelopes. A batch is packed
(and encrypted) as one piece: a Fernet token costs about 30 us whatever its length, so that encryption costs once per
batch, and hides the names of groups and channels. The prefix stands in the encrypted part, because a frame that was
copied from one prefix to another would otherwise pass for one of its own; and outside of the array, because there it
is compared byte for byte before anything is decoded, which costs nothing (inside it cost 13 %).

Frames that are not encrypted are of version 1. Encrypted ones are of version 2: whoever reads it compares its kinds and
targets with where it was found (see slots.py). The encrypted part holds the version once more, so that nobody can have
it taken for version 1, by processes of an older release that compare nothing. Version 1 is still read, as what is
compared is in it as well, and can be written (`sealed_version`) for those processes to understand.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from channels_trunk.envelope import Control, Envelope, Kind
from channels_trunk.exceptions import DecodeError, DecryptError, EncodeError

from .encryption import Cipher
from .large import WORTH_KEEPING, keep_room
from .serializers import BaseMessageSerializer, make_serializer
from .unreadable import unreadable

__all__ = ["FRAME_VERSION", "SEALED_VERSION", "Codec"]

FRAME_VERSION = 1
SEALED_VERSION = 2
_DEFAULT_PREFIX = "asgi"
_LARGE = 16 * 1024
_PLAIN_HEAD = bytes((FRAME_VERSION, 0))
# In version 1 the length of the prefix is there, which is never 0.
_SEALED_MARK = bytes((0, SEALED_VERSION))


class _Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    origin: str
    serializer_format: str
    envelopes: list[Envelope]


_encode = msgspec.msgpack.Encoder().encode
_decode_frame = msgspec.msgpack.Decoder(_Frame).decode
_decode_control = msgspec.msgpack.Decoder(Control).decode


class Codec:
    """Pure: no state but its settings, so any thread may use it at any time."""

    def __init__(
        self,
        *,
        serializer_format: str,
        cipher: Cipher | None,
        prefix: str = _DEFAULT_PREFIX,
        sealed_version: int = SEALED_VERSION,
    ) -> None:
        self._format = serializer_format
        self._prefix = prefix
        self._realm = bytes((len(prefix),)) + prefix.encode("ascii")
        self._plain_head = _PLAIN_HEAD + self._realm
        self._plain_length = len(self._plain_head)
        self._is_plain = cipher is None
        self._sealed_head = bytes((sealed_version, 1))
        self._sealed_start = self._realm if sealed_version == FRAME_VERSION else _SEALED_MARK + self._realm
        self._serializer = make_serializer(serializer_format)
        self._cipher = cipher
        self.unpack = self._serializer.from_bytes
        """Return a new message from a body; raises whatever the serializer does where the body is malformed."""

    def pack(self, message: dict[str, Any]) -> bytes:
        """Return the body of a message; raises EncodeError (a TypeError) that names the path of a bad value."""
        try:
            body = self._serializer.as_bytes(message)
        except EncodeError:
            raise
        except TypeError as error:
            raise EncodeError(str(error)) from error
        if not isinstance(body, bytes):
            # Here somebody sees it; at the receivers it would be a malformed frame.
            raise EncodeError(f"the serializer {self._format!r} returned {type(body).__name__}, not bytes")
        return body

    def pack_control(self, control: Control) -> bytes:
        """Return the body of a control envelope."""
        return _encode(control)

    def unpack_control(self, body: bytes) -> Control:
        """Return the control that a body holds; raises DecodeError, and nothing else."""
        try:
            return _decode_control(body)
        except Exception as error:
            raise unreadable("control envelope", error) from error

    def encode_frame(self, origin: str, envelopes: Sequence[Envelope]) -> bytes:
        """Return the frame that carries `envelopes`."""
        data = _encode((origin, self._format, envelopes))
        if len(data) > WORTH_KEEPING:
            keep_room()
        if self._cipher is None:
            return self._plain_head + data
        return self._sealed_head + self._cipher.encrypt(self._sealed_start + data)

    def decode_frame(self, frame: bytes) -> tuple[str, list[Envelope]]:
        """Return the origin and the envelopes of a frame; raises DecodeError or DecryptError, and nothing else."""
        data: bytes | memoryview
        try:
            if self._is_plain and frame.__class__ is bytes and frame.startswith(self._plain_head):
                # A copy of what is small is cheaper than a view of it.
                data = frame[self._plain_length :] if len(frame) < _LARGE else memoryview(frame)[self._plain_length :]
            else:
                data = self._of_this_prefix(self._opened(frame))
            if len(data) > WORTH_KEEPING:
                keep_room()
            decoded = _decode_frame(data)
            if decoded.serializer_format != self._format:
                return decoded.origin, self._translated(decoded)
        except DecodeError:
            raise
        except Exception as error:
            raise unreadable("frame", error) from error
        return decoded.origin, decoded.envelopes

    def _opened(self, frame: bytes) -> bytes:
        if not isinstance(frame, bytes) or len(frame) < 2:
            raise DecodeError("malformed frame: too short")
        version, sealed = frame[0], frame[1] == 1
        if version not in (FRAME_VERSION, SEALED_VERSION):
            known = f"{FRAME_VERSION} and {SEALED_VERSION}"
            raise DecodeError(f"frame of version {version}; this channels-trunk reads versions {known}")
        if frame[1] not in (0, 1) or (version == SEALED_VERSION and not sealed):
            raise DecodeError(f"malformed frame: encryption byte {frame[1]} in version {version}")
        if self._cipher is None:
            if sealed:
                raise DecryptError("the frame is encrypted, and this layer has no symmetric_encryption_keys")
            return frame[2:]
        if not sealed:
            # Accepting it would let anybody who can write to the store forge messages.
            raise DecryptError("the frame is not encrypted, and this layer has symmetric_encryption_keys")
        data = self._cipher.decrypt(frame[2:])
        if version == FRAME_VERSION:
            return data  # if it is one of version 2, its mark is no prefix
        if not data.startswith(_SEALED_MARK):
            raise DecodeError(f"malformed frame: it was not encrypted as version {SEALED_VERSION}")
        return data[len(_SEALED_MARK) :]

    def _of_this_prefix(self, data: bytes) -> bytes:
        if not data.startswith(self._realm):
            if not data or len(data) <= data[0]:
                raise DecodeError("malformed frame: too short")
            # What is there instead is not shown: it need not be a prefix.
            raise DecodeError(f"the frame is not of this layer's prefix, {self._prefix!r}")
        return data[len(self._realm) :]

    def _translated(self, frame: _Frame) -> list[Envelope]:
        """Repack bodies of a node that has another serializer_format, as while a deployment changes it."""
        try:
            other: BaseMessageSerializer = make_serializer(frame.serializer_format)
        except KeyError:
            raise DecodeError(f"frame of the unknown serializer_format {frame.serializer_format!r}") from None
        return [
            envelope
            if envelope.kind == Kind.CONTROL
            else Envelope(
                envelope.kind,
                envelope.target,
                envelope.expires_at,
                self._repacked(other, envelope.body),
            )
            for envelope in frame.envelopes
        ]

    def _repacked(self, other: BaseMessageSerializer, body: bytes) -> bytes:
        try:
            return self.pack(other.from_bytes(body))
        except Exception as error:
            # A registered serializer may raise anything; the reader must go on.
            # Its text is not shown, as it may quote the message.
            kind = type(error).__name__
            raise DecodeError(f"a message of another serializer_format cannot be repacked ({kind})") from error
