"""A private PgBouncer in front of a PostgreSQL."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest

from channels_trunk.testing.ports import LOOPBACK, free_port
from tests.plugins.servers.postgres_server import PostgresServer, dsn_for
from tests.plugins.servers.process import Process, find, private_folder
from tools.server_table import PGBOUNCER

PgBouncerFactory = Callable[..., "PgBouncer"]
CONFIGURATION = """
[databases]
* = host={server_host} port={server_port}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir = {folder}
auth_type = scram-sha-256
auth_file = {users}
admin_users = {admin}
pool_mode = {pool_mode}
default_pool_size = 10
max_client_conn = 200
# A server that comes back is used again at once; by default the pooler waits for 15 seconds.
server_login_retry = 0.1
ignore_startup_parameters = extra_float_digits
"""


class PgBouncer:
    """A pooler that knows the roles of those databases that are passed through by_address().

    `pool_mode` is "transaction" or "session".
    """

    def __init__(self, server: PostgresServer, folder: Path, *, pool_mode: str) -> None:
        self.host = LOOPBACK
        self.port = free_port()
        self._server = server
        self._users = folder / "users.txt"
        self._known: set[str] = set()
        self._introduce(server.superuser_dsn)
        parts = urlsplit(server.superuser_dsn)
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(
                server_host=parts.hostname,
                server_port=parts.port,
                host=self.host,
                port=self.port,
                folder=folder,
                users=self._users,
                admin=parts.username,
                pool_mode=pool_mode,
            )
        )
        self.process = Process([find(PGBOUNCER), "--quiet", configuration], folder=folder)

    def by_address(self, dsn: str) -> str:
        """The same database and role, by the pooler."""
        if self._introduce(dsn):
            self.ask("RELOAD")
        return self._moved(dsn)

    def _moved(self, dsn: str) -> str:
        return dsn_for(dsn, host=self.host, port=self.port)

    def _introduce(self, dsn: str) -> bool:
        parts = urlsplit(dsn)
        if parts.username in self._known:
            return False
        self._known.add(str(parts.username))
        with self._users.open("a") as users:
            users.write(f'"{parts.username}" "{parts.password}"\n')
        return True

    def ask(self, command: LiteralString) -> list[tuple[object, ...]]:
        """Give a command to the pooler's own console: SHOW POOLS, RELOAD, KILL."""
        console = self._moved(dsn_for(self._server.superuser_dsn, database="pgbouncer"))
        with psycopg.connect(console, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(command)
            return cursor.fetchall() if cursor.description else []

    def answers(self) -> bool:
        """Whether it takes connections now."""
        try:
            self.ask("SHOW VERSION")
        except psycopg.OperationalError:
            return False
        return True

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self.process.start(self.answers)

    def stop(self) -> None:
        """End it at once, with all connections through it."""
        self.process.stop(signal.SIGTERM)


@pytest.fixture
def pgbouncer() -> Iterator[PgBouncerFactory]:
    """Call it with a PostgreSQL for a pooler of its transactions; pool_mode="session" for one of sessions."""
    with ExitStack() as stack:

        def start(server: PostgresServer, *, pool_mode: str = "transaction") -> PgBouncer:
            made = PgBouncer(server, stack.enter_context(private_folder("pgbouncer")), pool_mode=pool_mode)
            stack.callback(made.process.kill)
            made.start()
            return made

        yield start
