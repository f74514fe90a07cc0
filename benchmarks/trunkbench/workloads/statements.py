"""One statement after another on a connection to PostgreSQL: by a cursor of psycopg, and by the layer's own wire."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, clock
from trunkbench.layer import Layer
from trunkbench.ledger import Account
from trunkbench.link import Link
from trunkbench.peers import Peer

BODY = b"x" * 250
Call = Callable[[], Awaitable[object]]


async def measured(call: Call, *, seconds: float) -> tuple[float, float]:
    """Microseconds a call: on the clock, and of this process' processor time."""
    busy = 0.0

    async def batch(count: int) -> float:
        nonlocal busy
        busy, started = time.process_time(), clock()
        for _ in range(count):
            await call()
        busy = time.process_time() - busy
        return clock() - started

    count, took = await Pace(first=200, limit=1_000_000, seconds=seconds).measure_async(batch)
    return took / count * 1e6, busy / count * 1e6


async def asker(_layer: Layer, link: Link, *, dsn: str, seconds: float) -> None:
    """Both ways, with the same prepared statement and binary values."""
    import psycopg

    from channels_trunk.transports.postgres.wire import Statement, Wire

    sql = "SELECT {}::bigint, {}::bytea"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        by_cursor = sql.format("%b", "%b")

        async def cursor() -> Any:
            async with connection.cursor(binary=True) as made:
                return await (await made.execute(by_cursor, (7, BODY), prepare=True)).fetchall()

        cursor_took, cursor_busy = await measured(cursor, seconds=seconds)
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    wire = Wire(connection, on_notices=lambda notices: None, on_lost=lambda error: None)
    statement = Statement(sql.format("$1", "$2"))
    wire_took, wire_busy = await measured(lambda: wire.run(statement, 7, BODY), seconds=seconds)
    wire.close()
    figures = {
        "cursor": cursor_took,
        "wire": wire_took,
        "cursor_busy": cursor_busy,
        "wire_busy": wire_busy,
    }
    link.tell("done", figures=figures, account=Account())


def measure(bench: Bench) -> Sample:
    """One process and the server."""
    with bench.crew() as crew:
        dsn = bench.services.postgres.dsn(bench.run_id)
        return Sample(**crew.start(asker, dsn=dsn, seconds=bench.seconds / 2).expect("done", within=60))


def _on_postgres(peer: Peer) -> bool:
    return peer.name == "postgres"


WORKLOADS = (
    Workload(
        name="statements",
        title="One statement after the other on one connection to PostgreSQL",
        figures=(
            Figure(name="cursor", title="psycopg cursor", unit="us", better="lower"),
            Figure(name="wire", title="the layer's wire", unit="us", better="lower"),
            Figure(name="cursor_busy", title="processor, cursor", unit="us", better="lower"),
            Figure(name="wire_busy", title="processor, wire", unit="us", better="lower"),
        ),
        measure=measure,
        suits=_on_postgres,
        series=True,
    ),
)
