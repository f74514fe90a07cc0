"""Options of CHANNEL_LAYERS: read once, checked once, into a frozen object; errors say path, value and remedy."""

import difflib
import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from .exceptions import OptionsError

__all__ = [
    "CORE_OPTIONS",
    "Option",
    "ResilienceOptions",
    "boolean",
    "make_capacity_of",
    "optional",
    "read_options",
    "seconds",
    "text",
]

UNLIMITED = 2**62
# People bring them along. They are not accepted, as they promise what is not so here: a Redis, or its callbacks.
_OF_REDIS = frozenset({"hosts", "random_prefix_length", "on_disconnect", "on_reconnect"})
Check = Callable[[Any], Any]


class Option(NamedTuple):
    """One option: its name, its default, and what turns the given value into the one to use (or raises ValueError)."""

    name: str
    default: Any
    check: Check
    inert: str = ""
    """Why the option has no effect here, if it is accepted only because other layers have it."""


class ResilienceOptions(NamedTuple):
    """How badly to treat messages on purpose: chances per message, and seconds at the most."""

    drop: float = 0.0
    delay: float = 0.0
    disconnect: float = 0.0


def read_options(config: Mapping[str, Any], table: Iterable[Option], where: str) -> dict[str, Any]:
    """Return the value of every option in `table`; raises OptionsError for the first that is wrong.

    `where` is the path of the options in the settings, for the error.
    """
    options = {option.name: option for option in table}
    for name in config:
        if name not in options:
            raise OptionsError(f"{where}: unknown option {name!r}; {_remedy(name, options)}")
    values = {}
    for name, option in options.items():
        value = config.get(name, option.default)
        try:
            values[name] = option.check(value) if name in config else value
        except ValueError as error:
            raise OptionsError(f"{where}[{name!r}]: {error}") from None
    return values


def _remedy(name: Any, options: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), options, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if name in _OF_REDIS:
        return "it is an option of channels_redis and means nothing here: remove it"
    return f"known options: {', '.join(sorted(options))}"


def make_capacity_of(
    capacity: int, patterns: list[tuple[re.Pattern[str], int]], *, enforce: bool
) -> Callable[[str], int]:
    """Return the function that tells a channel's capacity: that of the first pattern that matches, or `capacity`."""
    if not enforce:
        return lambda _channel: UNLIMITED
    if not patterns:
        return lambda _channel: capacity

    @lru_cache(maxsize=4096)
    def capacity_of(channel: str) -> int:
        return next((value for pattern, value in patterns if pattern.match(channel)), capacity)

    return capacity_of


# --- checks


def seconds(*, least: float = 0.0, zero_means: str = "") -> Check:
    """A finite number of seconds above `least`, or zero where that has a meaning."""

    def check(value: Any) -> float:
        number = _number(value, "a number of seconds")
        if (zero_means and number == 0) or number > least:
            return number
        hint = f", or 0 for {zero_means}" if zero_means else ""
        raise ValueError(f"must be more than {least:g} seconds{hint}, not {value!r}")

    return check


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"must be {what}, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"must be {what}, not {_shown(value)}")
    return number


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 120 else shown[:117] + "..."


def positive_int(value: Any) -> int:
    """An integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"must be a whole number of at least 1, not {value!r}")
    return value


def boolean(value: Any) -> bool:
    """True or False, and nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise ValueError(f"must be True or False, not {value!r}")
    return value


def text(value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a string that is not empty, not {value!r}")
    return value


def optional(check: Check) -> Check:
    """None, or what `check` says."""
    return lambda value: None if value is None else check(value)


def anything(value: Any) -> Any:
    """For options that have no effect."""
    return value


def _prefix(value: Any) -> str:
    name = text(value)
    if len(name) > 100 or not re.fullmatch(r"[\x20-\x7e]+", name):
        raise ValueError(f"must be at most 100 printable ASCII characters, not {_shown(value)}")
    return name


def _channel_capacity(value: Any) -> list[tuple[re.Pattern[str], int]]:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a dict of channel name pattern to capacity, not {value!r}")
    compiled = []
    for pattern, capacity in value.items():
        if not isinstance(pattern, str) and not (isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str)):
            raise ValueError(f"pattern {pattern!r} is neither a glob string nor a compiled regular expression")
        try:
            positive_int(capacity)
        except ValueError as error:
            raise ValueError(f"the capacity of {pattern!r} {error}") from None
        compiled.append((re.compile(fnmatch.translate(pattern)) if isinstance(pattern, str) else pattern, capacity))
    return compiled


def _keys(value: Any) -> tuple[str | bytes, ...]:
    # No key is ever shown.
    if isinstance(value, (str, bytes)):
        raise ValueError("must be a list of keys, even if there is only one")
    if not isinstance(value, (list, tuple)) or not all(isinstance(key, (str, bytes)) and key for key in value):
        raise ValueError("must be a list of strings or byte strings that are not empty")
    return tuple(value)


def _frame_version(value: Any) -> int:
    if isinstance(value, bool) or value not in (1, 2):
        raise ValueError(f"must be 2, or 1 for older processes to read it, not {_shown(value)}")
    return int(value)


def _serializer_format(value: Any) -> str:
    from .codec import serializer_formats

    known = serializer_formats()
    if value not in known:
        raise ValueError(f"must be one of {', '.join(map(repr, known))}, not {value!r}; see register_serializer()")
    return str(value)


def _gap_event(value: Any) -> str:
    name = text(value)
    if name.startswith("_"):
        raise ValueError(f"must be a message type, which names a consumer's handler, not {value!r}")
    return name


def _resilience(value: Any) -> ResilienceOptions:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a dict with any of 'drop', 'delay' and 'disconnect', not {value!r}")
    for name, chance in value.items():
        if name not in ResilienceOptions._fields:
            raise ValueError(f"unknown key {name!r}; known are 'drop', 'delay' and 'disconnect'")
        number = _number(chance, "a number")
        if number < 0 or (name != "delay" and number > 1):
            limits = "seconds, 0 or more" if name == "delay" else "a chance between 0 and 1"
            raise ValueError(f"{name!r} must be {limits}, not {chance!r}")
    return ResilienceOptions(**{name: float(chance) for name, chance in value.items()})


CORE_OPTIONS: tuple[Option, ...] = (
    Option("prefix", "asgi", _prefix),
    Option("expiry", 60.0, seconds()),
    Option("group_expiry", 86400.0, seconds(zero_means="never")),
    Option("capacity", 100, positive_int),
    Option("channel_capacity", (), lambda value: [] if value is None else _channel_capacity(value)),
    Option("enforce_capacity", True, boolean),
    Option("symmetric_encryption_keys", (), lambda value: () if value is None else _keys(value)),
    Option("frame_version", 2, _frame_version),
    Option("serializer_format", "msgpack", _serializer_format),
    Option("send_timeout", 5.0, seconds()),
    Option("max_message_size", 2 * 1024 * 1024, positive_int),
    Option("gap_event", None, optional(_gap_event)),
    Option("resilience", None, optional(_resilience)),
    Option("inline", True, boolean),
    Option("busy_wait", True, boolean),
)
