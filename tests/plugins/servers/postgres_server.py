"""What tests ask of a PostgreSQL: databases and roles of their own, and crashes."""

import itertools
import secrets
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import LiteralString
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from channels_trunk.testing.ports import LOOPBACK, free_port
from tests.plugins.servers.process import Process

OWNER = "trunk"
SUPERUSER = "postgres"
CRASH_SECONDS = 2.0
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "max_connections": "100",
    "shared_buffers": "32MB",
    "shared_preload_libraries": "pg_stat_statements",
    # A crash of the server loses nothing by these two; only one of the machine would.
    "fsync": "off",
    "full_page_writes": "off",
    # A run that is killed would leave segments in shared memory behind; files go with the folder.
    "dynamic_shared_memory_type": "mmap",
}
_numbers = itertools.count(1)


def dsn_for(
    dsn: str,
    *,
    database: str | None = None,
    user: str | None = None,
    password: str | None = None,
    host: str | None = None,
    port: int | None = None,
) -> str:
    """The same, but for what is given."""
    parts = urlsplit(dsn)
    place = f"{user or parts.username}:{password or parts.password}@{host or parts.hostname}:{port or parts.port}"
    return parts._replace(netloc=place, path=f"/{database}" if database else parts.path).geturl()


class PostgresServer:
    """A PostgreSQL that tests share: each takes a database of its own."""

    def __init__(self, superuser_dsn: str) -> None:
        self.superuser_dsn = superuser_dsn
        self._password = secrets.token_hex(8)
        self._dsn: str | None = None

    @property
    def dsn(self) -> str:
        """A database owned by an ordinary role."""
        if self._dsn is None:
            self._dsn = self.fresh_database()
        return self._dsn

    def execute(self, statement: LiteralString | sql.Composed, *, dsn: str | None = None) -> list[tuple[object, ...]]:
        """Run one statement as superuser, in a connection of its own; return its rows."""
        with psycopg.connect(dsn or self.superuser_dsn, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def fresh_database(self) -> str:
        """A new, empty database that belongs to an ordinary role."""
        name = f"trunk_{secrets.token_hex(4)}_{next(_numbers)}"
        self._make_owner()
        self.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(self._owner)))
        return dsn_for(self.superuser_dsn, database=name, user=self._owner, password=self._password)

    @property
    def _owner(self) -> str:
        # Not the same in every run: a server that the environment names may serve several runs.
        return f"{OWNER}_{self._password[:6]}"

    def _make_owner(self) -> None:
        if not self.execute(sql.SQL("SELECT 1 FROM pg_roles WHERE rolname = {}").format(sql.Literal(self._owner))):
            self._make_role(self._owner, self._password)

    def _make_role(self, name: str, password: str) -> None:
        self.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)))

    def create_role(self, dsn: str) -> str:
        """A new role with no rights beside those that everybody has; the same database by it."""
        name, password = f"guest_{secrets.token_hex(4)}", secrets.token_hex(8)
        self._make_role(name, password)
        return dsn_for(dsn, user=name, password=password)

    def drop_database(self, dsn: str) -> None:
        """Remove a database of fresh_database(), with whoever is still connected to it."""
        name = urlsplit(dsn).path.lstrip("/")
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


class OwnPostgres(PostgresServer):
    """A PostgreSQL that belongs to one test or one run, and may be stopped, crashed and paused.

    It keeps its port. The constructor makes the data folder; start() comes next.
    """

    def __init__(self, data: Path, *, binary: Path, password: str, settings: Mapping[str, str]) -> None:
        self.host = LOOPBACK
        self.port = free_port()
        self.password = password
        super().__init__(f"postgresql://{SUPERUSER}:{password}@{LOOPBACK}:{self.port}/postgres")
        self.data = data
        self.binary = binary
        options = {
            **SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": str(data.parent),
            **settings,
        }
        arguments = itertools.chain.from_iterable(("-c", f"{name}={value}") for name, value in options.items())
        self.process = Process([binary, "-D", data, *arguments], folder=data.parent)

    @property
    def tools(self) -> Path:
        """The folder of pg_basebackup and its like."""
        return self.binary.parent

    def answers(self) -> bool:
        """Whether it takes connections now."""
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self.process.start(self.answers)

    def stop(self, mode: str = "fast") -> None:
        """Do what `pg_ctl stop -m MODE` does."""
        if mode == "immediate":
            # PostgreSQL 15, asked to end while clients connect, now and then waits for a child that it has killed.
            self.process.crash(STOP_SIGNALS[mode], within=CRASH_SECONDS)
        else:
            self.process.stop(STOP_SIGNALS[mode])

    def restart_immediate(self) -> None:
        """Crash it, as `pg_ctl restart -m immediate` does: unlogged tables are empty afterwards."""
        self.stop("immediate")
        self.start()

    def kill(self) -> None:
        """End every process of it at once."""
        self.process.kill()

    def close(self) -> None:
        """End it for good. What was killed before has left a segment of shared memory; a machine has few of them."""
        segment = self.segment()
        self.stop("immediate")
        if segment and self.segment():
            subprocess.run(["ipcrm", "-m", segment], check=False)

    def segment(self) -> str | None:
        """The id of its segment of shared memory; it tells in this file, which an orderly end removes."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
        except (OSError, IndexError):
            return None

    def pause(self) -> None:
        """Let it hang: its connections stay open, and it answers nobody."""
        self.process.pause()

    def resume(self) -> None:
        """Go on after pause()."""
        self.process.resume()
