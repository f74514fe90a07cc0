"""The table of the layers that are compared. A new peer is one more row."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trunkbench.services import Services

# High enough that no layer refuses or drops for want of room: the workloads compare speed, not limits.
CAPACITY = 200_000


def import_class(backend: str) -> Any:
    """The class with this dotted path."""
    module, _, name = backend.rpartition(".")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One layer: how to make it, what it can do, and how it is freed."""

    name: str
    label: str
    backend: str
    config: Callable[[Services, str], dict[str, Any]]
    distributions: tuple[str, ...]
    crosses_processes: bool = True
    blocking_api: bool = False
    needs: tuple[str, ...] = ()
    close: str = "close"

    def missing(self) -> str | None:
        """What has to be installed for this peer, if anything."""
        try:
            import_class(self.backend)
        except (ImportError, AttributeError) as error:
            return str(error)
        return None


def _sqlite(services: Services, run_id: str) -> dict[str, Any]:
    return {"path": str(services.directory / f"{run_id}.sqlite3"), "prefix": run_id, "capacity": CAPACITY}


def _memory(_services: Services, run_id: str) -> dict[str, Any]:
    return {"prefix": run_id, "capacity": CAPACITY}


def _redis_core(services: Services, run_id: str) -> dict[str, Any]:
    return {"hosts": [services.redis.url], "prefix": run_id, "capacity": CAPACITY}


def _redis_pubsub(services: Services, run_id: str) -> dict[str, Any]:
    return {"hosts": [services.redis.url], "prefix": run_id}


def _in_memory(_services: Services, _run_id: str) -> dict[str, Any]:
    return {"capacity": CAPACITY}


PEERS: tuple[Peer, ...] = (
    Peer(
        name="sqlite",
        label="channels_trunk SQLite",
        backend="channels_trunk.layers.SQLiteChannelLayer",
        config=_sqlite,
        distributions=("channels-trunk", "msgspec"),
        blocking_api=True,
    ),
    Peer(
        name="memory",
        label="channels_trunk Memory",
        backend="channels_trunk.layers.MemoryChannelLayer",
        config=_memory,
        distributions=("channels-trunk", "msgspec"),
        crosses_processes=False,
        blocking_api=True,
    ),
    Peer(
        name="redis-pubsub",
        label="channels_redis pubsub",
        backend="channels_redis.pubsub.RedisPubSubChannelLayer",
        config=_redis_pubsub,
        distributions=("channels-redis", "redis", "msgpack"),
        needs=("redis",),
        # It has no close(); its flush() is local and lets the connections go.
        close="flush",
    ),
    Peer(
        name="redis-core",
        label="channels_redis core",
        backend="channels_redis.core.RedisChannelLayer",
        config=_redis_core,
        distributions=("channels-redis", "redis", "msgpack"),
        needs=("redis",),
        close="close_pools",
    ),
    Peer(
        name="inmemory",
        label="InMemoryChannelLayer",
        backend="channels.layers.InMemoryChannelLayer",
        config=_in_memory,
        distributions=("channels",),
        crosses_processes=False,
    ),
)

# Takes the place of a layer where the machine itself is measured.
BARE = Peer(
    name="bare",
    label="bare machine",
    backend="",
    config=lambda _services, _run_id: {},
    distributions=(),
    crosses_processes=False,
)


def peer_named(name: str) -> Peer:
    """The row with this name."""
    return next(peer for peer in (*PEERS, BARE) if peer.name == name)
