"""Any role of the database may send notifications, to whatever channel: what it says harms nobody for long."""

import logging
from typing import Any

import psycopg
import pytest

from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from tests.integration.postgres.conftest import MakeLayer, works
from tests.plugins.servers.postgres_server import PostgresServer

HOSTILE = {
    "nonsense": [
        "",
        "mark",
        "mark x",
        "mark -1",
        "1 2 3 4 5",
        "x tk AAAA",
        "7 tk !!!!",
        "queue",
        "queue x",
        "ä" * 3_000,
    ],
    "a mark that is old": ["mark 1"],
    "a number that no column holds": [f"mark {10**30}", f"{2**63} tk AAAA", f"{10**4000} tk AAAA"],
    "a number out of reach": [f"mark {2**62 - 1}", f"{2**62 - 1} tk AAAA", f"{2**42} tk AAAA"],
    "a row far ahead": [f"{2**40} tk AAAA"],
    "a row far ahead, to be fetched": [f"{2**40} tk "],
    "a mark far ahead": [f"mark {2**41}"],
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_process_gets_over_it(
    make_layer: MakeLayer, postgres: PostgresServer, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    dsn = postgres.fresh_database()
    here, there = make_layer(dsn), make_layer(dsn)
    await works(here, there)
    with psycopg.connect(dsn, autocommit=True) as stranger:
        bell = part_of(here).bells.node(here._hub.context.node)
        for payload in HOSTILE[case]:
            stranger.execute("SELECT pg_notify(%s, %s)", [bell, payload])
    what = "reconnects_total" if "far ahead" in case else "skipped_frames_total"
    if case != "a mark that is old":
        await eventually(lambda: getattr(here.stats(), what) > 0, within=60)
    # Maintenance finds out that it cannot be where it is said to be.
    await eventually(lambda: are_near(here, there), within=60)
    await works(here, there)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def part_of(layer: PostgresChannelLayer) -> Any:
    """What it has of its connections."""
    transport: Any = layer._hub.transport
    return transport._part


def are_near(here: PostgresChannelLayer, there: PostgresChannelLayer) -> bool:
    """Both are connected, and where the log ends."""
    parts = [part_of(layer) for layer in (here, there)]
    if None in parts or any(layer.health().state != "ok" for layer in (here, there)):
        return False
    one, other = (part.listener.position for part in parts)
    return bool(abs(one - other) < 1_000)
