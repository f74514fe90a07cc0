"""A PostgreSQL primary and its streaming standby behind one address, for tests of a failover."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from channels_trunk.testing import eventually_blocking
from channels_trunk.testing.proxy import Proxy
from tests.plugins.servers.postgres import OwnPostgresFactory
from tests.plugins.servers.postgres_server import SUPERUSER, OwnPostgres, dsn_for
from tests.plugins.servers.process import private_folder, run_as_account

CATCH_UP_SECONDS = 20.0
PostgresPairFactory = Callable[[], "PostgresPair"]


class PostgresPair:
    """Clients use one address, that of whichever server is the primary now."""

    def __init__(self, primary: OwnPostgres, standby: OwnPostgres) -> None:
        self.primary = primary
        self.standby = standby
        self.address = Proxy(primary.host, primary.port)

    def fresh_database(self) -> str:
        """A new database on both servers, by the common address."""
        dsn = self.primary.fresh_database()
        self.wait_for_standby()
        return self.by_address(dsn)

    def by_address(self, dsn: str) -> str:
        """The same database, by the common address."""
        return dsn_for(dsn, host=self.address.host, port=self.address.port)

    def wait_for_standby(self) -> None:
        """Wait until the standby has all that the primary has now."""
        eventually_blocking(self._standby_is_level, within=CATCH_UP_SECONDS, what="the standby is level")

    def _standby_is_level(self) -> bool:
        level = "SELECT bool_and(replay_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication"
        return self.primary.execute(level) == [(True,)]

    def fail_over(self) -> None:
        """The primary dies, and the standby takes its place at the common address."""
        self.primary.kill()
        self.promote()

    def promote(self) -> None:
        """Make the standby a primary, to which new connections go; the old one is left alone."""
        assert self.standby.execute("SELECT pg_promote()") == [(True,)]
        self.address.retarget(self.standby.host, self.standby.port)


def clone(primary: OwnPostgres, folder: Path) -> OwnPostgres:
    """A standby of a running primary, in an empty folder of its account; not started yet."""
    data = folder / "data"
    run_as_account(
        [
            *(primary.tools / "pg_basebackup", "--pgdata", data, "--write-recovery-conf", "--wal-method=stream"),
            *("--checkpoint=fast", "--no-sync", "--host", primary.host, "--port", str(primary.port)),
            *("--username", SUPERUSER, "--no-password"),
        ],
        folder=folder,
        environment={"PGPASSWORD": primary.password},
    )
    return OwnPostgres(data, binary=primary.binary, password=primary.password, settings={})


@pytest.fixture
def postgres_pair(own_postgres: OwnPostgresFactory) -> Iterator[PostgresPairFactory]:
    """Call it for a primary and a standby that follows it."""
    with ExitStack() as stack:

        def start() -> PostgresPair:
            primary = own_postgres()
            standby = clone(primary, stack.enter_context(private_folder("standby")))
            stack.callback(standby.close)
            standby.start()
            pair = PostgresPair(primary, standby)
            stack.callback(pair.address.close)
            pair.wait_for_standby()
            return pair

        yield start
