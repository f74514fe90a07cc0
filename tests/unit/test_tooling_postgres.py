"""The private PostgreSQL servers of a test run."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from channels_trunk.testing import eventually_blocking
from tests.plugins.servers import OwnPostgres, OwnPostgresFactory, PostgresPairFactory, PostgresServer, dsn_for, keeper


@pytest.fixture
def server(own_postgres: OwnPostgresFactory) -> OwnPostgres:
    return own_postgres()


def user_of(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT current_user").fetchone()
    assert row is not None
    return str(row[0])


def is_running(pid: int) -> bool:
    """A zombie that nobody has waited for yet does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:  # it may end while it is read
        return False


def test_databases_are_their_own_and_owned_by_an_ordinary_role(postgres: PostgresServer) -> None:
    one, other = postgres.fresh_database(), postgres.fresh_database()
    for dsn in (one, other):
        postgres.execute("CREATE TABLE notes (text text)", dsn=dsn)
        assert postgres.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", dsn=dsn) == [(False,)]
        postgres.drop_database(dsn)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(one)


def test_the_shared_database_stays_the_same(postgres: PostgresServer) -> None:
    assert postgres.dsn == postgres.dsn
    assert user_of(postgres.dsn).startswith("trunk_")
    assert user_of(postgres.superuser_dsn) != user_of(postgres.dsn)


def test_a_guest_may_do_nothing(postgres: PostgresServer, postgres_database: str) -> None:
    postgres.execute("CREATE TABLE notes (text text)", dsn=postgres_database)
    guest = postgres.create_role(postgres_database)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        postgres.execute("SELECT * FROM notes", dsn=guest)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        postgres.execute("CREATE TABLE theirs (text text)", dsn=guest)


def test_a_wrong_password_is_refused(server: OwnPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn_for(server.superuser_dsn, password="wrong"))


def test_statements_are_counted(server: OwnPostgres) -> None:
    dsn = dsn_for(server.superuser_dsn, database="postgres")
    server.execute("CREATE EXTENSION pg_stat_statements", dsn=dsn)
    assert server.execute("SELECT count(*) >= 0 FROM pg_stat_statements", dsn=dsn) == [(True,)]


def test_the_newest_is_newer_than_the_systems(newest_postgres: PostgresServer, postgres: PostgresServer) -> None:
    newest, usual = (
        server.execute("SELECT current_setting('server_version_num')::int / 10000")[0][0]
        for server in (newest_postgres, postgres)
    )
    assert newest == 18
    assert isinstance(usual, int)
    assert usual <= 18
    assert user_of(newest_postgres.fresh_database()).startswith("trunk_")


def test_settings_are_the_tests_own(own_postgres: OwnPostgresFactory) -> None:
    assert own_postgres(max_connections=7).execute("SHOW max_connections") == [("7",)]


def test_a_restart_keeps_the_address_and_empties_unlogged_tables(server: OwnPostgres) -> None:
    dsn = server.dsn
    server.execute("CREATE TABLE kept AS SELECT 1", dsn=dsn)
    server.execute("CREATE UNLOGGED TABLE lost AS SELECT 1", dsn=dsn)
    server.restart_immediate()
    assert server.execute("TABLE kept", dsn=dsn) == [(1,)]
    assert server.execute("TABLE lost", dsn=dsn) == []


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_it_stops_and_starts_again(server: OwnPostgres, mode: str) -> None:
    before = server.process.pid
    if mode == "kill":
        server.kill()
    else:
        server.stop(mode)
    assert not server.answers()
    assert not server.process.is_running()
    server.start()
    assert server.answers()
    assert server.process.pid != before


def test_a_paused_server_holds_its_connections_and_answers_nobody(server: OwnPostgres) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        server.pause()
        answers: list[object] = []
        asking = threading.Thread(target=lambda: answers.extend(connection.execute("SELECT 1").fetchall()))
        asking.start()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(dsn_for(server.dsn), connect_timeout=2)
        assert answers == []
        server.resume()
        asking.join(10)
    assert answers == [(1,)]


def test_a_paused_server_can_be_stopped(server: OwnPostgres) -> None:
    server.pause()
    server.stop()
    assert not server.process.is_running()


def test_a_server_started_in_a_thread_outlives_it(server: OwnPostgres) -> None:
    restart = threading.Thread(target=server.restart_immediate)
    restart.start()
    restart.join()
    assert server.answers()


@pytest.mark.parametrize("killed", [False, True])
def test_a_closed_server_leaves_no_shared_memory_behind(server: OwnPostgres, killed: bool) -> None:
    def segments() -> set[str]:
        return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()}

    segment = server.segment()
    assert segment in segments()
    if killed:
        server.kill()
    server.close()
    assert segment not in segments()


@pytest.fixture
def orphans(server: OwnPostgres) -> Iterator[list[int]]:
    """The processes of a server; they are gone after the test in any case."""
    pids = keeper.descendants(server.process.pid)
    assert len(pids) > 3
    yield pids
    keeper.signal_all(pids, signal.SIGKILL)


def test_all_processes_die_with_their_keeper(server: OwnPostgres, orphans: list[int]) -> None:
    os.kill(server.process.pid, signal.SIGKILL)
    eventually_blocking(lambda: not any(map(is_running, orphans)), within=20)


def test_a_standby_takes_over_at_the_same_address(postgres_pair: PostgresPairFactory) -> None:
    pair = postgres_pair()
    dsn = pair.fresh_database()
    pair.primary.execute("CREATE TABLE kept AS SELECT 1", dsn=dsn)
    pair.primary.execute("CREATE UNLOGGED TABLE lost AS SELECT 1", dsn=dsn)
    pair.wait_for_standby()
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        pair.fail_over()
        with pytest.raises(psycopg.OperationalError):
            cursor.execute("SELECT 1")
    assert pair.standby.execute("SELECT pg_is_in_recovery()", dsn=dsn) == [(False,)]
    assert pair.standby.execute("TABLE kept", dsn=dsn) == [(1,)]
    assert pair.standby.execute("TABLE lost", dsn=dsn) == []
