"""Which values a message may hold, and what becomes of those that Django hands out beside them.

The specification ("Messages") allows byte strings, unicode strings, 64-bit integers, floats, lists, dicts with unicode
keys, booleans and None. Beside those we take what Django code has at hand: subclasses such as SafeString and choices,
lazy strings, and dates, UUIDs and decimals. Anything else is refused when it is sent, not when it is received.
"""

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable
from typing import Any, NoReturn

from channels_trunk.exceptions import EncodeError

__all__ = ["RICH_TYPES", "normalise", "raise_unpackable"]

RICH_TYPES: tuple[type, ...] = (
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    decimal.Decimal,
)
_PLAIN = frozenset({str, int, float, bool, type(None), bytes})
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

Path = tuple[Any, ...]
Rich = Callable[[Any], Any]


class _Unpackable(Exception):
    """Some value cannot be packed; which one is found out afterwards, so that the good path pays nothing for it."""


def normalise(message: dict[str, Any], rich: Rich) -> dict[str, Any]:
    """Return `message`, or a copy of it in which every value is of a plain type or what `rich` made of a rich one.

    A message of plain values alone comes back as it is. Raises EncodeError (a TypeError) that names the path of the
    first value that cannot be packed.
    """
    try:
        return _walk_dict(message, rich)
    except (_Unpackable, RecursionError) as error:
        raise_unpackable(message, error)


def _walk_dict(value: dict[Any, Any], rich: Rich) -> dict[str, Any]:
    changed: dict[Any, Any] | None = None if type(value) is dict else dict(value)
    for key, item in value.items():
        if type(key) is not str:
            return _walk_dict({_plain_key(key): item for key, item in value.items()}, rich)
        if type(item) in _PLAIN:
            continue
        new = _walk(item, rich)
        if new is not item:
            if changed is None:
                changed = dict(value)
            changed[key] = new
    return value if changed is None else changed


def _walk_list(value: Any, rich: Rich) -> Any:
    changed: list[Any] | None = None if type(value) in (list, tuple) else list(value)
    for index, item in enumerate(value):
        if type(item) in _PLAIN:
            continue
        new = _walk(item, rich)
        if new is not item:
            if changed is None:
                changed = list(value)
            changed[index] = new
    return value if changed is None else changed


def _walk(value: Any, rich: Rich) -> Any:
    if isinstance(value, dict):
        return _walk_dict(value, rich)
    if isinstance(value, (list, tuple)):
        return _walk_list(value, rich)
    return _scalar(value, rich)


def _scalar(value: Any, rich: Rich) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, enum.Enum):
        return _walk(value.value, rich)
    if isinstance(value, RICH_TYPES):
        return rich(value)
    if isinstance(value, str):
        # Not str(value): a subclass may have a __str__ of its own, and then the text would not be what it compares as.
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    for base in (int, float):
        if isinstance(value, base):
            return base(value)
    if _is_lazy(value):
        return str(value)
    raise _Unpackable


def _plain_key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return str.__str__(key)
    if _is_lazy(key):
        return str(key)
    raise _Unpackable


def _is_lazy(value: object) -> bool:
    """Whether `value` is one of Django's lazy objects, known by name because the codec runs without Django."""
    return any(
        base.__name__ == "Promise" and base.__module__ == "django.utils.functional" for base in type(value).__mro__
    )


def raise_unpackable(message: dict[str, Any], cause: BaseException) -> NoReturn:
    """Raise EncodeError with the path of the value that cannot be packed; `cause` is how that came out."""
    shown_cause = None if isinstance(cause, _Unpackable) else cause
    try:
        found = _find(message, ())
    except RecursionError:
        found = ((), "nested too deeply, or a container that holds itself")
    if found is None:
        raise EncodeError(f"message: cannot be packed: {type(cause).__name__}: {cause}") from shown_cause
    path, reason = found
    raise EncodeError(f"message{''.join(f'[{_short(part)}]' for part in path)}: {reason}") from shown_cause


def _find(value: Any, path: Path) -> tuple[Path, str] | None:
    if isinstance(value, dict):
        for key in value:
            if (reason := _key_fault(key)) is not None:
                return path, reason
        children: Any = value.items()
    elif isinstance(value, (list, tuple)):
        children = enumerate(value)
    else:
        reason = _fault(value)
        return None if reason is None else (path, reason)
    for key, item in children:
        if (found := _find(item, (*path, key))) is not None:
            return found
    return None


def _key_fault(key: Any) -> str | None:
    try:
        return _fault(_plain_key(key))
    except _Unpackable:
        return f"key {_short(key)} is not a string"


def _fault(value: Any) -> str | None:
    try:
        plain = _scalar(value, str)
    except _Unpackable:
        return f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be packed"
    if type(plain) is int and not _INT64_MIN <= plain <= _INT64_MAX:
        return "an integer outside the signed 64-bit range"
    if type(plain) is str:
        try:
            plain.encode()
        except UnicodeEncodeError:
            return "a string with lone surrogates, which UTF-8 cannot hold"
    return None


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
