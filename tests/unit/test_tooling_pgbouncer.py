"""The private PgBouncer of a test."""

import psycopg
import pytest

from tests.plugins.servers import PgBouncer, PgBouncerFactory, PostgresServer


def passed_on(dsn: str) -> bool:
    """Whether what one transaction sets for its session is there in another connection's."""
    with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn, autocommit=True) as other:
        one.execute("SET application_name = 'mark'")
        return other.execute("SHOW application_name").fetchone() == ("mark",)


def pool_of(pooler: PgBouncer) -> list[object]:
    return [row[-1] for row in pooler.ask("SHOW POOLS") if str(row[0]).startswith("trunk_")]


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
def test_it_pools(
    postgres: PostgresServer, postgres_database: str, pgbouncer: PgBouncerFactory, pool_mode: str
) -> None:
    pooler = pgbouncer(postgres, pool_mode=pool_mode)
    dsn = pooler.by_address(postgres_database)
    assert dsn != postgres_database
    assert passed_on(dsn) == (pool_mode == "transaction")
    assert pool_of(pooler) == [pool_mode]


def test_a_role_may_come_later(postgres: PostgresServer, postgres_database: str, pgbouncer: PgBouncerFactory) -> None:
    pooler = pgbouncer(postgres)
    guest = pooler.by_address(postgres.create_role(postgres_database))
    assert postgres.execute("SELECT left(current_user, 5)", dsn=guest) == [("guest",)]


def test_it_stops_and_starts_again(
    postgres: PostgresServer, postgres_database: str, pgbouncer: PgBouncerFactory
) -> None:
    pooler = pgbouncer(postgres)
    dsn = pooler.by_address(postgres_database)
    pooler.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)
    pooler.start()
    assert postgres.execute("SELECT 1", dsn=dsn) == [(1,)]
