"""A transaction of the wire: BEGIN goes with the first statement where libpq can, and it has an end in any case."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.postgres import wire as wire_module
from channels_trunk.transports.postgres.wire import ServerError, Statement, Wire
from tests.integration.postgres.conftest import ask

INSERT = Statement("INSERT INTO kept VALUES ($1) RETURNING txid_current()")
DIVIDE = Statement("SELECT 1 / $1::bigint")
END = Statement("SELECT pg_terminate_backend(pg_backend_pid()), $1::bigint")


@pytest.fixture(params=[True, False], ids=["pipeline", "one by one"])
async def wire(
    request: pytest.FixtureRequest, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Wire]:
    """With libpq 14 and newer, and as with an older one."""
    monkeypatch.setattr(wire_module, "_PIPELINES", request.param)
    ask(postgres_database, "CREATE TABLE kept (number bigint)")
    connection = await psycopg.AsyncConnection.connect(postgres_database, autocommit=True)
    made = Wire(connection, on_notices=lambda _notices: None, on_lost=lambda _error: None)
    yield made
    made.close()


async def transact(wire: Wire, *statements: tuple[Statement, int]) -> None:
    async with wire.transaction() as run:
        for statement, value in statements:
            await run(statement, value)


def kept(dsn: str) -> list[int]:
    return [number for (number,) in ask(dsn, "SELECT number FROM kept ORDER BY 1")]


async def test_what_is_run_in_it_is_one_transaction(wire: Wire, postgres_database: str) -> None:
    for number in (1, 3):
        async with wire.transaction() as run:
            [(first,)] = await run(INSERT, number)
            [(second,)] = await run(INSERT, number + 1)
            assert first == second
            assert len(kept(postgres_database)) == number - 1
    assert kept(postgres_database) == [1, 2, 3, 4]


@pytest.mark.parametrize("before", [0, 1])
async def test_a_refused_statement_undoes_all_and_the_connection_goes_on(
    wire: Wire, postgres_database: str, before: int
) -> None:
    with pytest.raises(ServerError, match="division by zero"):
        await transact(wire, *[(INSERT, 1)] * before, (DIVIDE, 0))
    assert kept(postgres_database) == []
    await transact(wire, (INSERT, 7))
    assert kept(postgres_database) == [7]


async def test_a_session_that_ends_in_its_first_statement(wire: Wire, postgres_database: str) -> None:
    with pytest.raises(TransportUnavailable, match="connection to PostgreSQL is gone"):
        await transact(wire, (END, 0))
    assert wire.is_lost
    assert kept(postgres_database) == []


async def test_a_transaction_in_which_nothing_is_run(wire: Wire, postgres_database: str) -> None:
    await transact(wire)
    assert await wire.run(DIVIDE, 1) == [(1,)]
    assert kept(postgres_database) == []
