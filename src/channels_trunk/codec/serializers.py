"""The serializers: msgpack (the default) and json by msgspec, and a registry for others, as channels_redis has it."""

import datetime
import decimal
import math
import uuid
from typing import Any

import msgspec

from channels_trunk.exceptions import OptionsError

from .values import FROM_TEXT, normalise, raise_unpackable

__all__ = [
    "BaseMessageSerializer",
    "JSONSerializer",
    "MessagePackSerializer",
    "make_serializer",
    "register_serializer",
    "serializer_formats",
]


class BaseMessageSerializer:
    """Translate one message. Subclass it, define both methods, and register it under a name of your own.

    Both methods are called from any thread, several at a time.
    """

    def as_bytes(self, message: dict[str, Any]) -> bytes:
        """Return the packed message; raise TypeError if it cannot be packed."""
        raise NotImplementedError

    def from_bytes(self, body: bytes) -> dict[str, Any]:
        """Return the message, as a new object at each call."""
        raise NotImplementedError


# Not msgspec's own forms: a naive datetime, a UUID or a Decimal would come back as a string, an aware datetime not.
_EXT_TYPES: dict[type, int] = {
    datetime.datetime: 1,
    datetime.date: 2,
    datetime.time: 3,
    datetime.timedelta: 4,
    uuid.UUID: 5,
    decimal.Decimal: 6,
}
_FROM_EXT = {code: FROM_TEXT[kind] for kind, code in _EXT_TYPES.items()}


def _to_ext(kind: type, text: str) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(_EXT_TYPES[kind], text.encode())


def _from_ext(code: int, data: memoryview) -> Any:
    read = _FROM_EXT.get(code)
    if read is None:
        raise ValueError(f"unknown msgpack extension {code}")
    return read(bytes(data).decode())


def _to_text(_kind: type, text: str) -> str:
    return text


_msgpack_encode = msgspec.msgpack.Encoder().encode
_msgpack_decode = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=_from_ext).decode
_json_encode = msgspec.json.Encoder(decimal_format="string").encode
_json_decode = msgspec.json.Decoder(dict[str, Any]).decode


class MessagePackSerializer(BaseMessageSerializer):
    """msgpack; every accepted type but subclasses comes back as itself."""

    def as_bytes(self, message: dict[str, Any]) -> bytes:
        """Pack with msgspec."""
        plain = normalise(message, _to_ext)
        try:
            return _msgpack_encode(plain)
        except (OverflowError, UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
            raise_unpackable(plain, error)

    def from_bytes(self, body: bytes) -> dict[str, Any]:
        """Unpack with msgspec."""
        return _msgpack_decode(body)


class JSONSerializer(BaseMessageSerializer):
    """JSON; dates, UUIDs and decimals come back as strings, and byte strings are refused, as JSON has none."""

    def as_bytes(self, message: dict[str, Any]) -> bytes:
        """Pack with msgspec."""
        plain = normalise(message, _to_text)
        _refuse_what_json_has_not(plain, "message")
        try:
            return _json_encode(plain)
        except (OverflowError, UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
            raise_unpackable(plain, error)

    def from_bytes(self, body: bytes) -> dict[str, Any]:
        """Unpack with msgspec."""
        return _json_decode(body)


def _refuse_what_json_has_not(value: Any, path: str) -> None:
    # msgspec would turn bytes into base64 text, which the receiver could not tell from a string, and NaN into null.
    if isinstance(value, bytes):
        raise TypeError(f"{path}: byte strings cannot be sent with serializer_format 'json'; use 'msgpack'")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        # JSON would hold it, but what may be sent must not depend on the format, nor on who reads.
        raise TypeError(f"{path}: an integer outside the signed 64-bit range")
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{path}: {value} cannot be sent with serializer_format 'json'; use 'msgpack'")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_what_json_has_not(item, f"{path}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _refuse_what_json_has_not(item, f"{path}[{index}]")


_registry: dict[str, type[BaseMessageSerializer]] = {}


def register_serializer(name: str, serializer: type[BaseMessageSerializer]) -> None:
    """Make `serializer` known as a value of the option `serializer_format`; call it before the layer is made."""
    if not isinstance(name, str) or not name.isidentifier():
        raise OptionsError(f"register_serializer: the name of a serializer must be an identifier, not {name!r}")
    _registry[name] = serializer


def serializer_formats() -> list[str]:
    """Return the names that `serializer_format` may have."""
    return sorted(_registry)


def make_serializer(name: str) -> BaseMessageSerializer:
    """Return a new serializer of the registered format `name`; raises KeyError."""
    return _registry[name]()


register_serializer("msgpack", MessagePackSerializer)
register_serializer("json", JSONSerializer)
