"""Which values a message may hold, and what becomes of those that Django hands out beside them.

The specification ("Messages") allows byte strings, unicode strings, 64-bit integers, floats, lists, dicts with unicode
keys, booleans and None. Beside those we take what Django code has at hand: subclasses such as SafeString and choices,
lazy strings, and dates, UUIDs and decimals. Anything else is refused when it is sent, not when it is received.

A subclass may say anything of itself, in __str__, isoformat() or __class__. So its type is what type() says, and its
value is what the plain type's own methods find in it: what is accepted here can be read by every receiver.
"""

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable
from typing import Any, NoReturn

from channels_trunk.exceptions import EncodeError

__all__ = ["FROM_TEXT", "MAX_NESTING", "normalise", "raise_unpackable"]

MAX_NESTING = 100
"""How many containers may be in each other, the message included. Receivers read them on a stack that may be deep."""

_PLAIN = frozenset({str, int, float, bool, type(None), bytes})
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
# So much of a path tells where a value is.
_SHOWN = 20


def _timedelta_text(value: datetime.timedelta) -> str:
    kind: Any = datetime.timedelta
    return ",".join(str(part.__get__(value)) for part in (kind.days, kind.seconds, kind.microseconds))


def _timedelta(text: str) -> datetime.timedelta:
    return datetime.timedelta(*map(int, text.split(",")))


# A datetime is a date, and so comes first.
_TO_TEXT: dict[type, Callable[[Any], str]] = {
    datetime.datetime: datetime.datetime.isoformat,
    datetime.date: datetime.date.isoformat,
    datetime.time: datetime.time.isoformat,
    datetime.timedelta: _timedelta_text,
    uuid.UUID: uuid.UUID.__str__,
    decimal.Decimal: decimal.Decimal.__str__,
}
FROM_TEXT: dict[type, Callable[[str], Any]] = {
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    datetime.timedelta: _timedelta,
    uuid.UUID: uuid.UUID,
    decimal.Decimal: decimal.Decimal,
}
"""How a receiver reads the text of a date, a UUID or a decimal."""

Path = tuple[Any, ...]
Rich = Callable[[type, str], Any]


class _Unpackable(Exception):
    """A value cannot be packed. Each container that it is in adds to the path, so that the good way pays nothing."""

    def __init__(self, reason: str, path: Path = ()) -> None:
        self.reason = reason
        self.path = path

    def within(self, part: Any) -> "_Unpackable":
        outer = _Unpackable(self.reason, (part, *self.path))
        outer.__cause__ = self.__cause__
        return outer


def normalise(message: dict[str, Any], rich: Rich) -> dict[str, Any]:
    """Return `message`, or a copy of it in which every value is of a plain type or what `rich` made of a rich one.

    `rich` gets the type and the text of it. A message of plain values alone comes back as it is. Raises EncodeError (a
    TypeError) that names the path of the first value that cannot be packed.
    """
    try:
        if type(message) is dict:
            return _walk_dict(message, rich, 1)
        plain: dict[str, Any] = _walk(message, rich, 1)
    except _Unpackable as fault:
        _raise(fault)
    except Exception as error:  # noqa: BLE001 - a key's method, or too little stack
        _raise(_refusal(message, error))
    return plain


def _walk_dict(value: Any, rich: Rich, depth: int) -> dict[str, Any]:
    # A subclass may show other items than it has: what is walked is what is packed.
    plain: dict[Any, Any] = value if type(value) is dict else dict(value)
    changed: dict[Any, Any] | None = None
    for key, item in plain.items():
        if type(key) is not str:
            return _walk_dict(_with_plain_keys(plain), rich, depth)
        if type(item) in _PLAIN:
            continue
        try:
            new = _walk(item, rich, depth + 1)
        except _Unpackable as fault:
            raise fault.within(key) from fault.__cause__
        if new is not item:
            if changed is None:
                changed = dict(plain)
            changed[key] = new
    return plain if changed is None else changed


def _with_plain_keys(value: dict[Any, Any]) -> dict[str, Any]:
    plain = {_plain_key(key): item for key, item in value.items()}
    if len(plain) < len(value):
        raise _Unpackable("two keys are the same string")
    return plain


def _walk_list(value: Any, rich: Rich, depth: int) -> Any:
    plain = value if type(value) in (list, tuple) else list(value)
    changed: list[Any] | None = None
    for index, item in enumerate(plain):
        if type(item) in _PLAIN:
            continue
        try:
            new = _walk(item, rich, depth + 1)
        except _Unpackable as fault:
            raise fault.within(index) from fault.__cause__
        if new is not item:
            if changed is None:
                changed = list(plain)
            changed[index] = new
    return plain if changed is None else changed


def _walk(value: Any, rich: Rich, depth: int) -> Any:
    kind = type(value)
    try:
        if kind is dict or issubclass(kind, (dict, list, tuple)):
            return _walk_container(value, kind, rich, depth)
        if issubclass(kind, enum.Enum):
            inner = value.value
            return inner if type(inner) in _PLAIN else _walk(inner, rich, depth + 1)
        return _scalar(value, kind, rich)
    except _Unpackable:
        raise
    except Exception as error:
        # What its methods raise: it is refused as what they do not know is, by its path.
        raise _refusal(value, error) from error


def _walk_container(value: Any, kind: type, rich: Rich, depth: int) -> Any:
    if depth > MAX_NESTING:
        raise _Unpackable(f"nested deeper than {MAX_NESTING} levels, or a container that holds itself")
    if kind is dict or issubclass(kind, dict):
        return _walk_dict(value, rich, depth)
    return _walk_list(value, rich, depth)


def _scalar(value: Any, kind: type, rich: Rich) -> Any:
    if issubclass(kind, str):
        # Not str(value): a subclass may have a __str__ of its own, and then the text would not be what it compares as.
        return str.__str__(value)
    for base, to_text in _TO_TEXT.items():
        if issubclass(kind, base):
            return rich(base, to_text(value) if kind is base else _text_of_subclass(value, base))
    if issubclass(kind, (bytes, bytearray, memoryview)):
        return bytes(memoryview(value))
    if issubclass(kind, int):
        return int.__int__(value)
    if issubclass(kind, float):
        return float.__float__(value)
    if _is_lazy(kind):
        return str.__str__(str(value))
    raise _refusal(value)


def _text_of_subclass(value: Any, base: type) -> str:
    text = _TO_TEXT[base](value)
    FROM_TEXT[base](text)
    # pandas' NaT is a datetime of the year 1 that says of itself that it is none, in that it is not like itself.
    if issubclass(base, datetime.date) and value != value:
        raise _refusal(value)
    return text


def _plain_key(key: Any) -> str:
    if issubclass(type(key), enum.Enum):
        key = key.value
    if issubclass(type(key), str):
        return str.__str__(key)
    if _is_lazy(type(key)):
        return str.__str__(str(key))
    raise _Unpackable(f"key {_short(key)} is not a string")


def _is_lazy(kind: type) -> bool:
    """Whether this is the type of Django's lazy strings, known by name because the codec runs without Django."""
    return any(base.__name__ == "Promise" and base.__module__ == "django.utils.functional" for base in kind.__mro__)


def _refusal(value: object, cause: Exception | None = None) -> _Unpackable:
    kind = type(value)
    why = "" if cause is None else f" ({type(cause).__name__})"
    return _Unpackable(f"a value of type {kind.__module__}.{kind.__qualname__} cannot be packed{why}")


# --- what is of a plain type, and yet cannot be packed


def raise_unpackable(plain: dict[str, Any], cause: BaseException) -> NoReturn:
    """Raise EncodeError with the path of the value in a normalised message of which packing failed with `cause`."""
    found = _find(plain)
    if found is None:
        raise EncodeError(f"message: cannot be packed: {type(cause).__name__}: {cause}") from cause
    found.__cause__ = cause
    _raise(found)


def _find(value: Any) -> _Unpackable | None:
    if isinstance(value, dict):
        for key in value:
            if (reason := _fault(key)) is not None:
                return _Unpackable(reason)
        children: Any = value.items()
    elif isinstance(value, (list, tuple)):
        children = enumerate(value)
    else:
        return None if (reason := _fault(value)) is None else _Unpackable(reason)
    for key, item in children:
        if (found := _find(item)) is not None:
            return found.within(key)
    return None


def _fault(value: Any) -> str | None:
    if type(value) is int and not _INT64_MIN <= value <= _INT64_MAX:
        return "an integer outside the signed 64-bit range"
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            return "a string with lone surrogates, which UTF-8 cannot hold"
    return None


def _raise(fault: _Unpackable) -> NoReturn:
    path = "".join(f"[{_short(part)}]" for part in fault.path[:_SHOWN]) + ("..." if len(fault.path) > _SHOWN else "")
    raise EncodeError(f"message{path}: {fault.reason}") from fault.__cause__


def _short(value: object) -> str:
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - of a key that is a lazy object, for example
        shown = f"of type {type(value).__qualname__}"
    return shown if len(shown) <= 60 else shown[:57] + "..."
