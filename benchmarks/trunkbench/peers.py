"""The table of the layers that are compared. A new peer is one more row."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trunkbench.django_tables import make_sqlite_tables, set_up_django, sqlite_database
from trunkbench.overlay import Overlay

if TYPE_CHECKING:
    from trunkbench.services import Services

# High enough that no layer refuses or drops for want of room: the workloads compare speed, not limits.
CAPACITY = 200_000
# channels_rabbitmq asks the broker for as many messages at once, which AMQP counts in 16 bits.
MOST_AT_ONCE = 65_000
REDIS_8 = Overlay("redis-8", ["redis>=8,<9"])


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
    normal_channels: bool = True
    """Whether it has worker channels."""
    any_loop: bool = True
    """Whether it can be made, and called, outside of the one event loop that it lives in."""
    blocking_api: bool = False
    needs: tuple[str, ...] = ()
    close: str = "close"
    """The method that frees it, if it has one."""
    django_apps: tuple[str, ...] = ()
    """What must be in INSTALLED_APPS before it can be imported."""
    in_django_file: bool = False
    """Whether it is in the default database, which is a SQLite file."""
    alias: str = ""
    """The Django alias of its database, where it asks by Django's ORM as well."""
    overlay: Overlay | None = None
    """Packages that its processes alone have, in other versions than the others."""
    variant: bool = False
    """Whether it is another peer in other circumstances, to be measured in some workloads only."""

    @property
    def ours(self) -> bool:
        """Whether it is a layer of this project."""
        return self.backend.startswith("channels_trunk.")

    @property
    def engine(self) -> str:
        """What it runs on: a server, a SQLite file, or nothing beside its process."""
        if self.needs:
            return self.needs[0]
        return "sqlite" if self.crosses_processes else "process"

    def missing(self) -> str | None:
        """What has to be installed for this peer, if anything; what no other has is installed now."""
        if self.overlay and (reason := self.overlay.install()):
            return reason
        try:
            for app in self.django_apps:
                # Models can be imported in a process alone that has no other's settings.
                importlib.import_module(app)
            if not self.django_apps:
                import_class(self.backend)
        except (ImportError, AttributeError) as error:
            return str(error)
        return None

    def prepare(self, config: Mapping[str, Any]) -> None:
        """Have its own packages and Django ready, where the peer needs them."""
        if self.overlay:
            self.overlay.activate()
        databases = sqlite_database() if self.in_django_file else {}
        if self.alias:
            databases = {"default": dict(config), self.alias: dict(config)}
        set_up_django(self.django_apps, databases)


def _sqlite(services: Services, run_id: str) -> dict[str, Any]:
    return {"path": str(services.directory / f"{run_id}.sqlite3"), "prefix": run_id, "capacity": CAPACITY}


def _by_the_orm(services: Services, run_id: str) -> dict[str, Any]:
    make_sqlite_tables(services.directory / f"{run_id}.sqlite3", "channels_trunk")
    return {"database": "default", "prefix": run_id, "capacity": CAPACITY}


def _channels_lite(services: Services, run_id: str) -> dict[str, Any]:
    make_sqlite_tables(services.directory / f"{run_id}.sqlite3", "channels_lite")
    return {"database": "default", "capacity": CAPACITY}


def _memory(_services: Services, run_id: str) -> dict[str, Any]:
    return {"prefix": run_id, "capacity": CAPACITY}


def _postgres(services: Services, run_id: str) -> dict[str, Any]:
    services.postgres.fresh_database(run_id)
    return {"dsn": services.postgres.dsn(run_id), "prefix": run_id, "capacity": CAPACITY}


def _channels_postgres(services: Services, run_id: str) -> dict[str, Any]:
    place = services.postgres.fresh_database(run_id, apps=["channels_postgres"])
    return {**place, "TIME_ZONE": None, "prefix": run_id}  # it fails without TIME_ZONE where USE_TZ is true


def _rabbitmq(services: Services, run_id: str) -> dict[str, Any]:
    url = services.rabbitmq.url
    return {"host": url, "prefix": run_id, "capacity": CAPACITY, "remote_capacity": CAPACITY}


def _channels_rabbitmq(services: Services, run_id: str) -> dict[str, Any]:
    capacities = {"local_capacity": MOST_AT_ONCE, "remote_capacity": CAPACITY}
    return {"host": services.rabbitmq.url, "groups_exchange": f"{run_id}.groups", **capacities}


def _redis_core(services: Services, run_id: str) -> dict[str, Any]:
    return {"hosts": [services.redis.url], "prefix": run_id, "capacity": CAPACITY}


def _redis_pubsub(services: Services, run_id: str) -> dict[str, Any]:
    return {"hosts": [services.redis.url], "prefix": run_id}


def _valkey_core(services: Services, run_id: str) -> dict[str, Any]:
    return {"hosts": [services.valkey.url], "prefix": run_id, "capacity": CAPACITY}


def _valkey_pubsub(services: Services, run_id: str) -> dict[str, Any]:
    return {"hosts": [services.valkey.url], "prefix": run_id}


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
        name="database",
        label="channels_trunk ORM, SQLite",
        backend="channels_trunk.layers.DatabaseChannelLayer",
        config=_by_the_orm,
        distributions=("channels-trunk", "msgspec", "Django"),
        blocking_api=True,
        django_apps=("channels_trunk",),
        in_django_file=True,
    ),
    Peer(
        name="channels-lite",
        label="channels-lite ORM",
        backend="channels_lite.layers.core.SQLiteChannelLayer",
        config=_channels_lite,
        distributions=("channels-lite", "Django"),
        django_apps=("channels_lite",),
        in_django_file=True,
    ),
    Peer(
        name="channels-lite-aio",
        label="channels-lite AIO",
        backend="trunkbench.channels_lite_aio.AIOSQLiteChannelLayer",
        config=_channels_lite,
        distributions=("channels-lite", "aiosqlite", "aiosqlitepool"),
        django_apps=("channels_lite",),
        in_django_file=True,
    ),
    Peer(
        name="postgres",
        label="channels_trunk PostgreSQL",
        backend="channels_trunk.layers.PostgresChannelLayer",
        config=_postgres,
        distributions=("channels-trunk", "msgspec", "psycopg"),
        blocking_api=True,
        needs=("postgres",),
    ),
    Peer(
        name="channels-postgres",
        label="channels_postgres",
        backend="channels_postgres.core.PostgresChannelLayer",
        config=_channels_postgres,
        distributions=("channels_postgres", "psycopg", "psycopg-pool", "msgpack"),
        needs=("postgres",),
        close="",  # there is no such method
        django_apps=("channels_postgres",),
        alias="channels_postgres",
    ),
    Peer(
        name="rabbitmq",
        label="channels_trunk RabbitMQ",
        backend="channels_trunk.layers.RabbitMQChannelLayer",
        config=_rabbitmq,
        distributions=("channels-trunk", "msgspec"),
        blocking_api=True,
        needs=("rabbitmq",),
    ),
    Peer(
        name="channels-rabbitmq",
        label="channels_rabbitmq",
        backend="channels_rabbitmq.core.RabbitmqChannelLayer",
        config=_channels_rabbitmq,
        distributions=("channels-rabbitmq", "carehare", "pamqp", "msgpack"),
        normal_channels=False,
        any_loop=False,
        needs=("rabbitmq",),
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
        name="redis-pubsub-8",
        label="channels_redis pubsub, redis-py 8",
        backend="channels_redis.pubsub.RedisPubSubChannelLayer",
        config=_redis_pubsub,
        distributions=("channels-redis",),
        needs=("redis",),
        close="flush",
        overlay=REDIS_8,
        variant=True,
    ),
    Peer(
        name="redis-core-8",
        label="channels_redis core, redis-py 8",
        backend="channels_redis.core.RedisChannelLayer",
        config=_redis_core,
        distributions=("channels-redis",),
        needs=("redis",),
        close="close_pools",
        overlay=REDIS_8,
        variant=True,
    ),
    Peer(
        name="valkey-pubsub",
        label="channels_valkey pubsub",
        backend="channels_valkey.pubsub.ValkeyPubSubChannelLayer",
        config=_valkey_pubsub,
        distributions=("channels-valkey", "valkey", "msgpack"),
        needs=("valkey",),
        close="flush",
        variant=True,
    ),
    Peer(
        name="valkey-core",
        label="channels_valkey core",
        backend="channels_valkey.core.ValkeyChannelLayer",
        config=_valkey_core,
        distributions=("channels-valkey", "valkey", "msgpack"),
        needs=("valkey",),
        close="close_pools",
        variant=True,
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
