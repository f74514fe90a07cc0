"""An entry of CHANNEL_LAYERS from one URL, as environments carry it.

It is called while the settings are being read: it asks Django for nothing. No error shows a URL, as there may be a
password in it.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from .exceptions import OptionsError
from .options import Option, read_options

__all__ = ["config"]

_WHERE = "the channel layer's URL"
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<rest>.*)", re.DOTALL
)
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class _Parts(NamedTuple):
    """A URL, split; `query` has each name with all its values."""

    scheme: str
    authority: str
    path: str
    query: Mapping[str, Sequence[str]]

    @property
    def is_bare(self) -> bool:
        """Whether it says nothing of a place."""
        return not self.authority and self.path in ("", "/")


Read = Callable[[_Parts, frozenset[str]], tuple[dict[str, Any], frozenset[str]]]


def config(url: str) -> dict[str, Any]:
    """Return an entry of CHANNEL_LAYERS, BACKEND and CONFIG, for a URL.

    `sqlite:///file`, `sqlite:////absolute/file`, `postgresql://user:password@host/name`,
    `amqp://user:password@host/vhost`, `database://alias` and `memory://`. Options of the layer stand in the query, as
    in `?prefix=news&capacity=1000`.
    Raises OptionsError if the URL, or an option in it, is wrong; its text does not quote the URL.
    """
    parts = _split(url)
    if parts.scheme not in _SCHEMES:
        close = difflib.get_close_matches(parts.scheme, _SCHEMES, n=1)
        remedy = (
            f"did you mean {close[0]}://?" if close else f"known are {', '.join(f'{name}://' for name in _SCHEMES)}"
        )
        raise OptionsError(f"{_WHERE} begins with {parts.scheme[:20]}://, which is no channel layer; {remedy}")
    name, read = _SCHEMES[parts.scheme]
    table = {option.name: option for option in _options_of(name)}
    found, taken = read(parts, frozenset(table))
    values = {key: given for key, given in parts.query.items() if key not in taken}
    # An unknown name first: its value may be of any kind.
    read_options({key: None for key in values if key not in table}, table.values(), _WHERE)
    found |= {key: _typed(table[key], given) for key, given in values.items()}
    read_options(found, table.values(), _WHERE)
    return {"BACKEND": f"channels_trunk.layers.{name}", "CONFIG": found}


def _options_of(name: str) -> Iterable[Option]:
    from channels_trunk import layers

    try:
        options: tuple[Option, ...] = getattr(layers, name).options
    except ImportError as error:
        # In the settings an ImportError would be kept back, and be said as if the settings were missing.
        raise OptionsError(f"{_WHERE}: {error}") from error
    return options


def _split(url: str) -> _Parts:
    if not isinstance(url, str):
        raise OptionsError(f"{_WHERE} must be a string, not {type(url).__name__}")
    match = _URL.fullmatch(url.strip())
    if match is None:
        given = "is no URL" if url.strip() else "is empty"
        raise OptionsError(f"{_WHERE} {given}; write for example sqlite:///channels.sqlite3")
    authority, path, rest = match["authority"], match["path"], match["rest"]
    is_cut_short = "@" in path + rest and authority != "" and "@" not in authority
    if "#" in rest or is_cut_short:
        raise OptionsError(
            f"{_WHERE}: in a user, a password, a name or a value, '/', '?', '#' and '@' are written %2F, %3F, %23 "
            f"and %40"
        )
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(rest.removeprefix("?"), keep_blank_values=True):
        query.setdefault(name, []).append(value)
    return _Parts(match["scheme"].lower(), authority, path, query)


# --- values


def _typed(option: Option, given: Sequence[str]) -> Any:
    """The value that the option accepts: a number, a boolean, JSON, the text itself, a list of texts."""
    first_error: ValueError | None = None
    for candidate in _candidates(given):
        try:
            option.check(candidate)
        except ValueError as error:
            first_error = first_error or error
        else:
            return candidate
    raise OptionsError(f"{_WHERE}[{option.name!r}]: {first_error}")


def _candidates(given: Sequence[str]) -> Iterable[Any]:
    """What the text may mean, the most particular first."""
    if len(given) == 1:
        [text] = given
        for kind in (int, float):
            with suppress(ValueError):
                yield kind(text)
        if text.lower() in _WORDS:
            yield _WORDS[text.lower()]
        if text[:1] in ("{", "["):
            with suppress(ValueError):
                yield json.loads(text)
        yield text
    yield list(given)


# --- schemes: what the URL itself says, and which names of its query belong to that


def _sqlite(parts: _Parts, _options: frozenset[str]) -> tuple[dict[str, Any], frozenset[str]]:
    if ":memory:" in (parts.authority, parts.path[1:]):
        raise OptionsError(f"{_WHERE}: a SQLite database in memory has no second process; write memory://")
    if parts.authority:
        raise OptionsError(
            f"{_WHERE}: the path of a SQLite file begins behind three slashes, sqlite:///relative/file, and an "
            f"absolute one behind four, sqlite:////absolute/file"
        )
    return ({} if parts.is_bare else {"path": unquote(parts.path[1:])}), frozenset()


def _postgres(parts: _Parts, options: frozenset[str]) -> tuple[dict[str, Any], frozenset[str]]:
    from psycopg import pq

    known = {entry.keyword.decode() for entry in pq.Conninfo.get_defaults()} | {"ssl"}
    libpq = frozenset(parts.query) & known - options
    for name in sorted(set(parts.query) - options - libpq):
        close = difflib.get_close_matches(name, [*options, *known], n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "it is neither an option of the layer nor one of libpq"
        raise OptionsError(f"{_WHERE}: unknown option {name!r}; {remedy}")
    if parts.is_bare and not libpq:
        return {}, frozenset()
    return {"dsn": f"postgresql://{parts.authority}{parts.path}" + _query(parts, libpq)}, libpq


def _rabbitmq(parts: _Parts, _options: frozenset[str]) -> tuple[dict[str, Any], frozenset[str]]:
    address = frozenset({"heartbeat", "connection_timeout"})
    user, at, hosts = parts.authority.rpartition("@")
    rest = parts.path + _query(parts, address)
    urls = [f"{parts.scheme}://{user}{at}{host}{rest}" for host in hosts.split(",")]
    return {"host": urls if len(urls) > 1 else urls[0]}, address


def _query(parts: _Parts, names: frozenset[str]) -> str:
    """The part of the query with these names."""
    pairs = [(name, value) for name in parts.query if name in names for value in parts.query[name]]
    # libpq takes a plus sign for itself, and not for a space.
    return "?" + urlencode(pairs, quote_via=quote) if pairs else ""


def _database(parts: _Parts, _options: frozenset[str]) -> tuple[dict[str, Any], frozenset[str]]:
    if parts.path not in ("", "/") or "@" in parts.authority:
        raise OptionsError(f"{_WHERE}: behind database:// stands an alias in DATABASES, and nothing else")
    return ({"database": unquote(parts.authority)} if parts.authority else {}), frozenset()


def _memory(parts: _Parts, _options: frozenset[str]) -> tuple[dict[str, Any], frozenset[str]]:
    if not parts.is_bare:
        raise OptionsError(f"{_WHERE}: behind memory:// stands nothing but options, as in memory://?capacity=1000")
    return {}, frozenset()


_SCHEMES: dict[str, tuple[str, Read]] = {
    "sqlite": ("SQLiteChannelLayer", _sqlite),
    "postgresql": ("PostgresChannelLayer", _postgres),
    "postgres": ("PostgresChannelLayer", _postgres),
    "amqp": ("RabbitMQChannelLayer", _rabbitmq),
    "amqps": ("RabbitMQChannelLayer", _rabbitmq),
    "database": ("DatabaseChannelLayer", _database),
    "memory": ("MemoryChannelLayer", _memory),
}
