"""The layer on RabbitMQ."""

import math
import ssl
from collections.abc import Hashable, Iterable
from typing import Any, ClassVar

from channels_trunk.exceptions import OptionsError
from channels_trunk.findings import Finding, find_server
from channels_trunk.options import (
    CORE_OPTIONS,
    Option,
    anything,
    boolean,
    make_capacity_of,
    optional,
    positive_int,
    text,
)
from channels_trunk.stats import Survey
from channels_trunk.transports.base import Transport
from channels_trunk.transports.rabbitmq import Address, RabbitMQSettings, RabbitMQTransport, parse_address
from channels_trunk.transports.rabbitmq.survey import survey
from channels_trunk.transports.rabbitmq.topology import QUEUE_EXPIRES, Topology

from .base import TrunkChannelLayer

__all__ = ["RabbitMQChannelLayer"]

_DEFAULT_HOST = "amqp://guest:guest@127.0.0.1/"
_QUEUE_TYPES = ("classic", "quorum")
_MOST_PREFETCH = 65_535


def _host(value: Any) -> tuple[Address, ...]:
    # What is given is never shown: there is a password in it.
    urls = [value] if isinstance(value, str) else value
    if not isinstance(urls, (list, tuple)) or not urls or not all(isinstance(url, str) for url in urls):
        raise ValueError("must be a URL, amqp://user:password@host:port/vhost, or a list of them")
    return tuple(parse_address(url) for url in urls)


def _ssl_context(value: Any) -> ssl.SSLContext:
    if not isinstance(value, ssl.SSLContext):
        raise ValueError(f"must be an ssl.SSLContext, not {type(value).__name__}")
    return value


def _queue_type(value: Any) -> str:
    if value not in _QUEUE_TYPES:
        raise ValueError(f"must be 'classic' or 'quorum', not {value!r}")
    return str(value)


def _prefetch_count(value: Any) -> int:
    if positive_int(value) > _MOST_PREFETCH:
        raise ValueError(f"must be {_MOST_PREFETCH} at most, not {value!r}")
    return int(value)


def _exchange(value: Any) -> str:
    name = text(value)
    if len(name) > 100 or not name.isascii() or not name.isprintable() or name.startswith("amq."):
        raise ValueError("must be at most 100 printable ASCII characters, and not begin with 'amq.'")
    return name


class RabbitMQChannelLayer(TrunkChannelLayer):
    """A channel layer for processes on any number of machines, on RabbitMQ 3.10 or newer.

    `host` is a URL, or a list of URLs: the nodes of a cluster. Each process has one connection. All queues and
    exchanges are made when they are needed, and expire when nobody needs them.
    """

    options: ClassVar[tuple[Option, ...]] = (
        *CORE_OPTIONS,
        Option("host", (parse_address(_DEFAULT_HOST),), _host),
        Option("ssl_context", None, optional(_ssl_context)),
        Option("groups_exchange", None, optional(_exchange)),
        Option("queue_type", "classic", _queue_type),
        Option("durable", True, boolean),
        Option("prefetch_count", 500, _prefetch_count),
        Option("remote_capacity", 10_000, positive_int),
        Option("local_capacity", None, optional(positive_int)),
        Option("local_expiry", None, anything, inert="one 'expiry' holds from send() to receive()"),
    )

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        if self._values["ssl_context"] is not None and not all(each.is_tls for each in self._values["host"]):
            raise OptionsError(
                f"{self._where}['ssl_context'] is of no use to an amqp:// URL in 'host': the password would go "
                f"over the network in the clear. Write amqps://, or leave 'ssl_context' out"
            )
        local_capacity = self._values["local_capacity"]
        if local_capacity is not None and "capacity" not in config:
            # What channels_rabbitmq calls the capacity of a channel.
            self.capacity = local_capacity
            enforce = self._values["enforce_capacity"]
            self._capacity_of = make_capacity_of(local_capacity, self.channel_capacity, enforce=enforce)

    def place(self) -> Hashable | None:
        """The brokers, and what names begin with there."""
        return frozenset((each.host, each.port, each.vhost) for each in self._values["host"])

    def examine(self) -> Iterable[Finding]:
        """Say that no broker answers; what a broker refuses is said by the layer itself."""
        found = [find_server(each.host, each.port, f"RabbitMQ at {each}") for each in self._values["host"]]
        return () if None in found else [finding for finding in found if finding is not None]

    def survey(self) -> Survey:
        """What waits in normal channels. Raises TransportUnavailable."""
        return survey(self._settings(), prefix=self.prefix, codec=self._codec)

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return RabbitMQTransport(self._settings())

    def _settings(self) -> RabbitMQSettings:
        values = self._values
        queue_expires = max(QUEUE_EXPIRES, 2 * self.expiry)
        topology = Topology(
            prefix=self.prefix,
            groups_exchange=values["groups_exchange"] or f"{self.prefix}.groups",
            durable=values["durable"],
            queue_type=values["queue_type"],
            queue_expires=queue_expires,
            ledger_expires=max(2 * queue_expires, self.group_expiry or math.inf),
            remote_capacity=values["remote_capacity"],
        )
        return RabbitMQSettings(
            addresses=values["host"],
            topology=topology,
            expiry=self.expiry,
            send_timeout=values["send_timeout"],
            prefetch_count=values["prefetch_count"],
            accepts_plain=not values["symmetric_encryption_keys"],
            ssl_context=values["ssl_context"],
        )
