"""Private PostgreSQL servers: one for the whole run, and others for tests that crash theirs."""

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.plugins.servers.postgres_server import SUPERUSER, OwnPostgres, PostgresServer
from tests.plugins.servers.process import find, private_folder, run_as_account
from tools.server_table import NEWEST_POSTGRES, POSTGRES

INITDB = ("--no-sync", "--no-instructions", "--encoding=UTF8", "--no-locale", "--wal-segsize=1", "--auth=scram-sha-256")
OwnPostgresFactory = Callable[..., OwnPostgres]


class Clusters:
    """Makes data folders. initdb runs once for each version; copies of what it made take a fifth of its time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._templates: dict[Path, Path] = {}
        self._password = secrets.token_hex(8)

    def make(self, binary: Path, folder: Path, settings: Mapping[str, str]) -> OwnPostgres:
        """A server that was not started yet, in an empty folder of its account."""
        template = self._templates.get(binary) or self._initdb(binary)
        run_as_account(["cp", "-a", template, folder / "data"], folder=folder)
        return OwnPostgres(folder / "data", binary=binary, password=self._password, settings=settings)

    def _initdb(self, binary: Path) -> Path:
        template = self._folder / f"template{len(self._templates)}"
        password = self._folder / "password"
        password.write_text(self._password)
        password.chmod(0o644)  # the folder is private, and its account must read this
        initdb = binary.with_name("initdb")
        command: list[str | Path] = [initdb, "-D", template, *INITDB, f"--username={SUPERUSER}", f"--pwfile={password}"]
        run_as_account(command, folder=self._folder)
        self._templates[binary] = template
        return template


def postgres_binary() -> Path:
    """The program itself, and no link to it: beside it are its tools."""
    return find(POSTGRES).resolve()


@pytest.fixture(scope="session")
def postgres_clusters() -> Iterator[Clusters]:
    """For the fixtures below."""
    with private_folder("initdb") as folder:
        yield Clusters(folder)


def start_for_session(clusters: Clusters, binary: Path, folder: Path) -> Iterator[PostgresServer]:
    """The body of a session fixture: a server that nobody restarts."""
    server = clusters.make(binary, folder, {})
    server.start()
    server.process.belongs_to_session()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres(postgres_clusters: Clusters) -> Iterator[PostgresServer]:
    """The PostgreSQL of this run; take a `fresh_database()`."""
    if url := POSTGRES.url():
        yield PostgresServer(url)
    else:
        with private_folder("postgres") as folder:
            yield from start_for_session(postgres_clusters, postgres_binary(), folder)


@pytest.fixture(scope="session")
def newest_postgres(postgres_clusters: Clusters) -> Iterator[PostgresServer]:
    """A PostgreSQL of the newest version that can be had; take a `fresh_database()`."""
    bundle = find(NEWEST_POSTGRES).resolve().parents[1]
    with private_folder("postgres") as folder:
        # The project may lie where the server's account cannot look.
        copy = shutil.copytree(bundle, folder / "program", symlinks=True)
        yield from start_for_session(postgres_clusters, copy / "bin" / "postgres", folder)


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[str]:
    """The address of an empty database for one test."""
    dsn = postgres.fresh_database()
    yield dsn
    postgres.drop_database(dsn)


@pytest.fixture
def own_postgres(postgres_clusters: Clusters) -> Iterator[OwnPostgresFactory]:
    """Call it for a running PostgreSQL of the test's own; arguments are settings: own_postgres(max_connections=10)."""
    with ExitStack() as stack:

        def start(**settings: object) -> OwnPostgres:
            folder = stack.enter_context(private_folder("postgres"))
            values = {name: str(value) for name, value in settings.items()}
            server = postgres_clusters.make(postgres_binary(), folder, values)
            stack.callback(server.close)
            server.start()
            return server

        yield start
