"""What the transport is told by the layer's options."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from .address import Address
from .topology import Topology

__all__ = ["RabbitMQSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitMQSettings:
    """Durations in seconds."""

    addresses: Sequence[Address]
    """One, or the nodes of a cluster: any of them will do."""
    topology: Topology
    expiry: float
    """Of messages that come from other programs."""
    send_timeout: float
    prefetch_count: int
    accepts_plain: bool
    """Whether messages of other programs are taken; with keys they are not, as anybody could have made them."""
    ssl_context: ssl.SSLContext | None = None
