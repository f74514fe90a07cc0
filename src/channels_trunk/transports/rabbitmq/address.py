"""Addresses of brokers: `amqp://user:password@host:port/vhost?heartbeat=15`."""

from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

__all__ = ["Address", "parse_address"]

_PORTS = {"amqp": 5672, "amqps": 5671}
_LEAST_HEARTBEAT = 1.0


class Address(NamedTuple):
    """Where a broker is, and how to come in. Its text holds no password."""

    host: str
    port: int
    vhost: str
    user: str
    password: str
    is_tls: bool
    heartbeat: float = 15.0
    """How often each side says that it lives; twice as long without a word means that it does not. Seconds."""
    connection_timeout: float = 5.0

    def __repr__(self) -> str:
        return f"<RabbitMQ at {self}>"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}, vhost {self.vhost!r}"


def parse_address(url: str) -> Address:
    """Read a URL; raises ValueError, whose text never quotes it, as there may be a password in it."""
    parts = _split(url)
    options = {"heartbeat": 15.0, "connection_timeout": 5.0}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in options:
            raise ValueError(f"the URL has an unknown parameter {name!r}; known are {', '.join(map(repr, options))}")
        options[name] = _seconds(name, value)
    # As other AMQP clients of Python have it: both no path and a bare slash mean the vhost "/".
    vhost = unquote(parts.path.removeprefix("/")) or "/"
    return Address(
        host=parts.hostname or "127.0.0.1",
        port=_port(parts.netloc, parts.scheme),
        vhost=vhost,
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        is_tls=parts.scheme == "amqps",
        **options,
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL; write amqp://user:password@host:port/vhost") from None
    if parts.scheme not in _PORTS or not url.partition(":")[2].startswith("//"):
        # With one slash the user and the password would be taken for a vhost, and its name is shown.
        raise ValueError("must be a URL that begins with amqp:// or amqps://")
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(
            "the URL has an '@' behind its host; write amqp://user:password@host:port/vhost, and in a password or a "
            "vhost '@', ':', '/', '?' and '#' as %40, %3A, %2F, %3F and %23"
        )
    if "/" in parts.path[1:]:
        raise ValueError("the URL has more than one name in its path; write '/' in the name of a vhost as %2F")
    return parts


def _port(netloc: str, scheme: str) -> int:
    # Not parts.port, whose error would quote what may be the end of a password.
    text = netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
    if not text:
        return _PORTS[scheme]
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(
            "the URL's port must be a number between 1 and 65535; in a password, '@', ':' and '/' are written %40, "
            "%3A and %2F"
        )
    return int(text)


def _seconds(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not _LEAST_HEARTBEAT <= number <= 3600:
        raise ValueError(f"the URL's {name} must be a number of seconds between 1 and 3600, not {value!r}")
    return number
