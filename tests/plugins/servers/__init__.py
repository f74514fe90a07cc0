"""Private servers for tests: started on first use, on a free loopback port, gone when the run ends or dies.

An address in the environment (see tools/server_table.py) is used instead of starting one; tests that crash their server
need its program in any case. A server that cannot be had is an error, never a skip. To add a server: a row in the table
and a module here with its fixture.
"""

from channels_trunk.testing.ports import free_port
from tests.plugins.servers.mariadb import MariaDbServer, OwnMariaDb, mariadb, own_mariadb
from tests.plugins.servers.pgbouncer import PgBouncer, PgBouncerFactory, pgbouncer
from tests.plugins.servers.postgres import (
    OwnPostgresFactory,
    newest_postgres,
    own_postgres,
    postgres,
    postgres_clusters,
    postgres_database,
)
from tests.plugins.servers.postgres_pair import PostgresPair, PostgresPairFactory, postgres_pair
from tests.plugins.servers.postgres_server import OwnPostgres, PostgresServer, dsn_for
from tests.plugins.servers.process import (
    BOUND_TO_PARENT,
    Process,
    ServerError,
    find,
    private_folder,
)
from tests.plugins.servers.rabbit_server import RabbitServer
from tests.plugins.servers.rabbitmq import (
    OwnRabbitFactory,
    RabbitClusterFactory,
    SharedRabbit,
    chosen_rabbitmq,
    on_every_rabbitmq,
    on_rabbitmq,
    own_rabbit,
    pytest_addoption,
    pytest_collection_modifyitems,
    rabbit,
    rabbit_cluster,
    rabbitmq_program,
    shared_rabbit,
)
from tests.plugins.servers.redis import redis_url

__all__ = [
    "BOUND_TO_PARENT",
    "MariaDbServer",
    "OwnMariaDb",
    "OwnPostgres",
    "OwnPostgresFactory",
    "OwnRabbitFactory",
    "PgBouncer",
    "PgBouncerFactory",
    "PostgresPair",
    "PostgresPairFactory",
    "PostgresServer",
    "Process",
    "RabbitClusterFactory",
    "RabbitServer",
    "ServerError",
    "SharedRabbit",
    "chosen_rabbitmq",
    "dsn_for",
    "find",
    "free_port",
    "mariadb",
    "newest_postgres",
    "on_every_rabbitmq",
    "on_rabbitmq",
    "own_mariadb",
    "own_postgres",
    "own_rabbit",
    "pgbouncer",
    "postgres",
    "postgres_clusters",
    "postgres_database",
    "postgres_pair",
    "private_folder",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "rabbit",
    "rabbit_cluster",
    "rabbitmq_program",
    "redis_url",
    "shared_rabbit",
]
