"""Checks of options. They read settings and look at files; they open nothing."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning

from channels_trunk import layers
from channels_trunk.exceptions import OptionsError
from channels_trunk.layers.base import TrunkChannelLayer

from .entries import Entry, entries, made
from .files import check_file

__all__ = ["check_channel_layers", "check_layer"]

_LONG_ENOUGH = 32
_DIFFERENT_ENOUGH = 10
# What daphne lets a socket live for if it is told nothing else (--websocket_timeout).
_SOCKETS_LIVE_FOR = 86400


def check_channel_layers(app_configs: object = None, **kwargs: Any) -> list[CheckMessage]:
    """Check every entry of CHANNEL_LAYERS whose BACKEND is one of channels-trunk's."""
    found = [message for entry in entries() if entry.is_ours for message in _check_entry(entry)]
    return [*found, *_check_keys_of_one_place()]


def check_layer(alias: str) -> list[CheckMessage]:
    """Check one entry."""
    found = [
        message for entry in entries() if entry.is_ours and entry.alias == alias for message in _check_entry(entry)
    ]
    return [*found, *_check_keys_of_one_place(alias)]


def _check_entry(entry: Entry) -> Iterator[CheckMessage]:
    for key in entry.unread:
        yield CheckWarning(
            f"{entry.where}[{key!r}] is read by nobody.",
            hint="Options of a layer stand in 'CONFIG'.",
            id="channels_trunk.W009",
        )
    if not entry.has_options:
        # Its content is not shown: there may be keys in it.
        given = (
            "a dict with keys that are no strings" if isinstance(entry.config, dict) else type(entry.config).__name__
        )
        yield Error(
            f"{entry.where}['CONFIG'] must be a dict of option names to values, not {given}.",
            hint="Write it as a dict whose keys are the names of options.",
            id="channels_trunk.E001",
        )
        return
    try:
        layer = entry.layer()
    except (ImportError, OptionsError) as error:
        yield _refused(entry, error)
        return
    yield from _check_options(entry, type(layer).options)
    yield from _check_keys(entry, layer)
    yield from _check_group_expiry(entry, layer)
    if (file := layer.file()) is not None:
        yield from check_file(entry, file)


def _refused(entry: Entry, error: Exception) -> CheckMessage:
    if isinstance(error.__cause__, ImportError) and "pip install" in str(error):
        return Error(
            str(error) if isinstance(error, OptionsError) else f"{entry.where}: {error}",
            hint="Install the package, as the message says.",
            id="channels_trunk.E004",
        )
    if isinstance(error, OptionsError):
        return Error(str(error), hint="Correct the option named.", id="channels_trunk.E001")
    return Error(
        f"{entry.where}: {error}",
        hint=f"Correct BACKEND; it may be {_backend_like(entry.backend)!r}.",
        id="channels_trunk.E002",
    )


def _backend_like(backend: str) -> str:
    """The name that was meant, perhaps."""
    close = difflib.get_close_matches(backend.rpartition(".")[2], layers.__all__, n=1)
    return f"{layers.__name__}.{close[0] if close else 'SQLiteChannelLayer'}"


def _check_options(entry: Entry, options: Iterable[Any]) -> Iterator[CheckMessage]:
    for option in options:
        if option.inert and option.name in entry.config:
            yield CheckWarning(
                f"{entry.where}['CONFIG'][{option.name!r}] does nothing: {option.inert}.",
                hint="Remove the option.",
                id="channels_trunk.W001",
            )


def _check_keys(entry: Entry, layer: TrunkChannelLayer) -> Iterator[CheckMessage]:
    weak = [number for number, key in enumerate(layer.encryption_keys, start=1) if _is_weak(key)]
    if weak:
        which = ", ".join(map(str, weak))
        yield CheckWarning(
            f"{entry.where}['CONFIG']['symmetric_encryption_keys']: a key can be guessed (number {which} of the list).",
            hint=f"Use random keys of {_LONG_ENOUGH} characters or more, such as secrets.token_urlsafe(32) makes them.",
            id="channels_trunk.W005",
        )


def _is_weak(key: str | bytes) -> bool:
    start = "django-insecure-" if isinstance(key, str) else b"django-insecure-"
    return len(key) < _LONG_ENOUGH or len(set(key)) < _DIFFERENT_ENOUGH or key.startswith(start)  # type: ignore[arg-type]


def _check_group_expiry(entry: Entry, layer: TrunkChannelLayer) -> Iterator[CheckMessage]:
    if 0 < layer.group_expiry < _SOCKETS_LIVE_FOR:
        yield CheckWarning(
            f"{entry.where}['CONFIG']['group_expiry'] is {layer.group_expiry:g} s: a socket that is open for longer "
            f"drops out of its groups, and servers let a socket live for {_SOCKETS_LIVE_FOR} s (daphne) or for ever.",
            hint="Leave it out or set it to 0: members go with their process anyway. Or let consumers call group_add() "
            "again, and the server's --websocket_timeout be shorter, and silence this.",
            id="channels_trunk.W006",
        )


def _check_keys_of_one_place(alias: str | None = None) -> Iterator[CheckMessage]:
    """Layers that share messages and cannot open each other's."""
    first_at: dict[object, tuple[Entry, TrunkChannelLayer]] = {}
    for entry, layer in made():
        place = layer.place()
        if place is None:
            continue
        first, other = first_at.setdefault((place, layer.prefix), (entry, layer))
        if alias in (None, entry.alias, first.alias) and not _open_each_other(layer, other):
            yield Error(
                f"{entry.where} and {first.where} share their engine and the prefix {layer.prefix!r}, and have "
                f"different keys: neither can open what the other sends.",
                hint="Give each a 'prefix' of its own, or both the same 'symmetric_encryption_keys'.",
                id="channels_trunk.E007",
            )


def _open_each_other(one: TrunkChannelLayer, other: TrunkChannelLayer) -> bool:
    first, second = one.encryption_keys, other.encryption_keys
    return (first[:1] == second[:1]) or bool(first and second and first[0] in second and second[0] in first)
