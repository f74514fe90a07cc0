"""A private MariaDB."""

import secrets
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pymysql
import pytest
from pymysql.err import OperationalError  # as MySQLdb, the package gets another module of that name

from channels_trunk.testing.ports import LOOPBACK, free_port
from tests.plugins.servers.process import Process, ServerError, find, private_folder, run_as_account
from tools.server_table import MARIADB

ADMINISTRATOR = "administrator"
OPTIONS = (
    *("--skip-name-resolve", "--bind-address", LOOPBACK, "--max-connections", "100"),
    # A crash of the server loses nothing by these; only one of the machine would.
    *("--innodb-flush-log-at-trx-commit=2", "--skip-innodb-doublewrite"),
    *("--innodb-buffer-pool-size=32M", "--performance-schema=off"),
)


class MariaDbServer:
    """A MariaDB that tests share: each takes a database of its own."""

    def __init__(self, administrator_url: str) -> None:
        self.administrator_url = administrator_url
        self._url: str | None = None

    @property
    def url(self) -> str:
        """A database of an ordinary user: mysql://USER:PASSWORD@HOST:PORT/DATABASE."""
        if self._url is None:
            self._url = self.fresh_database()
        return self._url

    def execute(self, *statements: str, url: str | None = None) -> Sequence[tuple[object, ...]]:
        """Run statements as administrator, in a connection of their own; return the last one's rows."""
        parts = urlsplit(url or self.administrator_url)
        connection = pymysql.connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user=parts.username,
            password=parts.password or "",
            database=parts.path.lstrip("/") or None,
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return tuple(cursor.fetchall())

    def fresh_database(self) -> str:
        """A new, empty database, with a user who owns nothing else."""
        name, password = f"trunk_{secrets.token_hex(4)}", secrets.token_hex(8)
        self.execute(
            f"CREATE DATABASE {name} CHARACTER SET utf8mb4",
            f"CREATE USER {name}@'%' IDENTIFIED BY '{password}'",
            f"GRANT ALL ON {name}.* TO {name}@'%'",
        )
        parts = urlsplit(self.administrator_url)
        return f"mysql://{name}:{password}@{parts.hostname}:{parts.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Remove a database of fresh_database(), and its user."""
        name = urlsplit(url).path.lstrip("/")
        self.execute(f"DROP DATABASE IF EXISTS {name}", f"DROP USER IF EXISTS {name}@'%'")

    def answers(self) -> bool:
        """Whether it takes connections now."""
        try:
            self.execute("SELECT 1")
        except OperationalError:
            return False
        return True


class OwnMariaDb(MariaDbServer):
    """A MariaDB that belongs to one test or one run, and may be stopped and killed; it keeps its port.

    The constructor makes its data, in an empty folder of the servers' account; start() comes next.
    """

    def __init__(self, folder: Path) -> None:
        port, password = free_port(), secrets.token_hex(8)
        super().__init__(f"mysql://{ADMINISTRATOR}:{password}@{LOOPBACK}:{port}/")
        self.process = _process(folder, port=port, password=password)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process.start(self.answers)

    def stop(self) -> None:
        """Have it end in order."""
        self.process.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()


def _process(folder: Path, *, port: int, password: str) -> Process:
    """A server that was not started yet, with its data."""
    binary, installer = find(MARIADB), shutil.which("mariadb-install-db")
    if installer is None:
        raise ServerError(MARIADB.remedy())
    data, first = folder / "data", folder / "first.sql"
    # Not /tmp: a server that starts removes the temporary tables that it finds, another one's that runs, too.
    own_folders = [f"--datadir={data}", f"--tmpdir={folder}"]
    run_as_account(
        [installer, "--no-defaults", *own_folders, "--auth-root-authentication-method=normal", "--skip-test-db"],
        folder=folder,
    )
    # Run at each start. The installer's administrator has no password: from now on it comes by the socket alone.
    first.write_text(
        f"DROP USER IF EXISTS root@'{LOOPBACK}', root@'::1', ''@'localhost';\n"
        f"CREATE OR REPLACE USER {ADMINISTRATOR}@'{LOOPBACK}' IDENTIFIED BY '{password}';\n"
        f"GRANT ALL ON *.* TO {ADMINISTRATOR}@'{LOOPBACK}' WITH GRANT OPTION;\n"
    )
    places = [*own_folders, f"--port={port}", f"--socket={folder / 'socket'}", f"--init-file={first}"]
    return Process([binary, "--no-defaults", *places, *OPTIONS], folder=folder)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDbServer]:
    """The MariaDB of this run; take a `fresh_database()`."""
    if url := MARIADB.url():
        yield MariaDbServer(url)
        return
    with private_folder("mariadb") as folder:
        server = OwnMariaDb(folder)
        server.start()
        server.process.belongs_to_session()
        yield server
        server.kill()


@pytest.fixture
def own_mariadb() -> Iterator[OwnMariaDb]:
    """A running MariaDB that belongs to the test."""
    with private_folder("mariadb") as folder:
        server = OwnMariaDb(folder)
        server.start()
        yield server
        server.kill()
