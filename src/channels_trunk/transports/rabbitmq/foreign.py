"""The plain format in which other programs may publish, as channels_rabbitmq's: version 1.

A msgpack map, which is the message, and one key more: `__asgi_group__` or `__asgi_channel__`, which names the target.
"""

from collections.abc import Mapping

import msgspec

from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import DecodeError
from channels_trunk.names import check_channel, check_group

__all__ = ["CHANNEL_KEY", "GROUP_KEY", "read_plain"]

GROUP_KEY, CHANNEL_KEY = "__asgi_group__", "__asgi_channel__"


def read_plain(body: bytes, *, codec: Codec, expires_at: float) -> Envelope:
    """The envelope of a message that another program sent; raises DecodeError, whose text does not quote it."""
    try:
        message = msgspec.msgpack.decode(body)
    except Exception:  # noqa: BLE001 - see codec.unreadable
        raise DecodeError("a message of another program is not msgpack") from None
    if not isinstance(message, Mapping) or (GROUP_KEY in message) == (CHANNEL_KEY in message):
        raise DecodeError(f"a message of another program must be a map with either {GROUP_KEY!r} or {CHANNEL_KEY!r}")
    content = dict(message)
    kind = Kind.GROUP if GROUP_KEY in content else Kind.MAILBOX
    target = content.pop(GROUP_KEY if kind is Kind.GROUP else CHANNEL_KEY)
    try:
        (check_group if kind is Kind.GROUP else check_channel)(target)
        packed = codec.pack(content)
    except Exception:  # noqa: BLE001 - a serializer of the user's may raise anything
        raise DecodeError("a message of another program has a bad name, or holds what cannot be packed") from None
    return Envelope(kind, target, expires_at, packed)
