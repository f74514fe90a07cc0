"""A claim reads what it takes, and no more, whatever the server knew of the table when it made the plan."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from channels_trunk.codec import Codec
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.postgres.connecting import _SET_UP
from channels_trunk.transports.postgres.ddl import creation_script
from channels_trunk.transports.postgres.hints import Hints
from channels_trunk.transports.postgres.moves import Moves
from channels_trunk.transports.postgres.names import Names
from channels_trunk.transports.postgres.queues import Queues
from tests.plugins.clock import FakeClock
from tests.unit.transports.test_contract import RecordingSink

NAMES = Names("public", "trunk_")
LIMIT = 16
FILL = (
    "INSERT INTO trunk_queue SELECT nextval('trunk_queue_ids'), 'asgi', %s, 2e9, 'frame' FROM generate_series(1, %s) i"
)
Connection = psycopg.Connection[tuple[Any, ...]]


def claim() -> str:
    """The statement of a claim."""
    codec = Codec(serializer_format="msgpack", cipher=None)
    context = NodeContext("node", "asgi", codec, RecordingSink(), FakeClock().as_clock(), lambda _: 100)
    line: Any = None
    return Queues(line, context, NAMES, Moves(), Hints(context, NAMES.bells("asgi")))._take.sql.decode()


@pytest.fixture
def session(postgres_database: str) -> Iterator[Connection]:
    """A session as the layer's, with its tables."""
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute(_SET_UP.encode())
        connection.execute(
            f"BEGIN; {creation_script(NAMES)}; INSERT INTO trunk_state (epoch) VALUES (1); COMMIT".encode()
        )
        connection.execute(f"PREPARE claim (text, text, bigint) AS {claim()}".encode())
        yield connection


def rows_read(node: dict[str, Any]) -> int:
    """The most rows that a step of a plan has read, those included that it has passed over."""
    own = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return max([int(own), *map(rows_read, node.get("Plans", []))])


def read_by_a_claim(session: Connection) -> int:
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE claim('asgi', 'jobs', {LIMIT})"
    [(found,)] = session.execute(explain.encode()).fetchall()
    return rows_read(found[0]["Plan"])


@pytest.mark.parametrize("known", ["nothing", "an empty table", "one channel", "many rows of another channel"])
def test_a_claim_reads_what_it_takes(session: Connection, known: str) -> None:
    if known == "one channel":
        session.execute(FILL, ("jobs", 5_000))
    if known == "many rows of another channel":
        session.execute(FILL, ("others", 5_000))
    if known != "nothing":
        session.execute("VACUUM ANALYZE trunk_queue")
    read_by_a_claim(session)  # the plan is made
    session.execute(FILL, ("others", 2_000))
    session.execute(FILL, ("jobs", 2_000))
    assert read_by_a_claim(session) == LIMIT
    session.execute("VACUUM trunk_queue")  # it is made anew
    assert read_by_a_claim(session) == LIMIT
