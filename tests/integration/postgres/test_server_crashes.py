"""The server crashes, and its unlogged tables are empty; a standby takes its place, or an operator empties all."""

import asyncio

import pytest

from channels_trunk.exceptions import SchemaMismatch, TransportUnavailable
from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from tests.integration.postgres.conftest import GAP, HELLO, MakeLayer, ask, is_away, is_ok, member, works
from tests.integration.postgres.load import PROCESSES, check_at_most_once, check_streams, crew
from tests.plugins.impatience import impatient
from tests.plugins.servers.postgres import OwnPostgresFactory
from tests.plugins.servers.postgres_pair import PostgresPairFactory

TRUNCATE = "TRUNCATE trunk_meta, trunk_state, trunk_log_0, trunk_log_1, trunk_queue, trunk_members, trunk_nodes"
DROP = "DROP TABLE trunk_meta, trunk_state, trunk_log_0, trunk_log_1, trunk_queue, trunk_members, trunk_nodes CASCADE"


async def next_of(layer: PostgresChannelLayer, channel: str) -> object:
    """The next message."""
    return await asyncio.wait_for(layer.receive(channel), 20)


async def said_no(layer: PostgresChannelLayer) -> bool:
    """Whether a send is refused for want of the schema."""
    try:
        await layer.send("jobs", HELLO)
    except SchemaMismatch as error:
        return "rooms" in str(error)
    except TransportUnavailable:
        pass
    return False


def all_take_part(dsn: str) -> bool:
    """Whether every process has read what others send."""
    [(processes, read)] = ask(
        dsn,
        "SELECT count(*), min(position) - (SELECT min(id) FROM (TABLE trunk_log_0 UNION ALL TABLE trunk_log_1) l) "
        "FROM trunk_nodes",
    )
    return bool(processes == PROCESSES and read is not None and read > 20)


@pytest.mark.timeout(300)
async def test_a_server_that_crashes_under_load(own_postgres: OwnPostgresFactory) -> None:
    server = own_postgres()
    dsn = server.fresh_database()
    async with crew(dsn) as processes:
        for _ in range(2):
            await eventually(lambda: all_take_part(dsn), within=20)
            server.restart_immediate()
        await eventually(lambda: all_take_part(dsn), within=20)
        outcome = await processes.outcome()
    check_streams(outcome, may_miss=True)
    check_at_most_once(outcome)
    assert all(got["gaps"] >= 1 for got in outcome.values())


async def test_a_crash_is_a_gap_and_is_said(make_layer: MakeLayer, own_postgres: OwnPostgresFactory) -> None:
    server = own_postgres()
    dsn = server.fresh_database()
    here, there = make_layer(dsn), make_layer(dsn, gap_event="gap.said")
    channel = await member(there)
    alone = await there.new_channel()
    await here.send("jobs", HELLO)
    server.restart_immediate()
    assert await next_of(there, channel) == GAP
    await eventually(lambda: here.stats().gaps_total, within=20)  # it may not have noticed yet
    await is_ok(here, there)
    assert here.stats().gaps_total == there.stats().gaps_total == 1
    await here.group_send("members", HELLO)
    assert await next_of(there, channel) == HELLO
    await here.send(alone, HELLO)
    assert await next_of(there, alone) == HELLO  # no gap in a channel without groups
    await works(here, there)


async def test_an_orderly_restart_is_no_gap(make_layer: MakeLayer, own_postgres: OwnPostgresFactory) -> None:
    server = own_postgres()
    dsn = server.fresh_database()
    here, there = make_layer(dsn, send_timeout=30), make_layer(dsn, gap_event="gap.said")
    channel = await member(there)
    await here.send("jobs", HELLO)
    server.stop()
    await is_away(here, there)
    sending = asyncio.ensure_future(here.send(channel, HELLO))
    server.start()
    await sending
    assert await next_of(there, channel) == HELLO
    assert await next_of(there, "jobs") == HELLO
    assert there.stats().gaps_total == 0
    await works(here, there)


@pytest.mark.timeout(150)
async def test_a_standby_takes_the_place_of_its_primary(
    make_layer: MakeLayer, postgres_pair: PostgresPairFactory
) -> None:
    pair = postgres_pair()
    dsn = pair.fresh_database()
    here, there = make_layer(dsn, send_timeout=30), make_layer(dsn, gap_event="gap.said")
    channel = await member(there)
    await works(here, there)
    pair.wait_for_standby()
    pair.fail_over()
    await here.send(channel, HELLO)
    assert [await next_of(there, channel) for _ in range(2)] in ([GAP, HELLO], [HELLO, GAP])
    await works(here, there)


@pytest.mark.timeout(150)
async def test_connections_that_lead_to_a_standby_wait_for_its_promotion(
    make_layer: MakeLayer, postgres_pair: PostgresPairFactory
) -> None:
    pair = postgres_pair()
    dsn = pair.fresh_database()
    here = make_layer(dsn)
    await works(here, here)
    pair.wait_for_standby()
    pair.address.retarget(pair.standby.host, pair.standby.port)
    pair.address.cut()
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(lambda: "the server is a standby in recovery" in here.health().detail, within=20)
    for _ in range(3):  # it goes on trying, however long that takes
        with impatient(here, 1), pytest.raises(TransportUnavailable, match="the server is a standby in recovery"):
            await here.send("jobs", HELLO)
        assert here.health().state == "away"
    assert not receiving.done()
    pair.promote()
    await is_ok(here)
    await here.send("jobs", HELLO)
    assert await asyncio.wait_for(receiving, 20) == HELLO
    await works(here, here)


@pytest.mark.parametrize(
    "statement",
    [TRUNCATE, DROP, "TRUNCATE trunk_state", "DELETE FROM trunk_nodes", "TRUNCATE trunk_log_0, trunk_log_1"],
    ids=["truncated", "dropped", "state", "nodes", "log"],
)
async def test_an_operator_empties_the_tables(make_layer: MakeLayer, postgres_database: str, statement: str) -> None:
    here, there = make_layer(postgres_database), make_layer(postgres_database, gap_event="gap.said")
    channel = await member(there)
    for _ in range(20):
        await here.group_send("members", HELLO)
        assert await next_of(there, channel) == HELLO
    await works(here, there)
    ask(postgres_database, statement)
    # Who is forgotten may have missed a flush, or that another one took its channel out of a group.
    assert await next_of(there, channel) == GAP
    await eventually(lambda: here.stats().gaps_total == 1, within=10)
    await is_ok(here, there)
    await here.group_send("members", HELLO)
    assert await next_of(there, channel) == HELLO
    await works(here, there)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE trunk_log_0, trunk_log_1",
        "DELETE FROM trunk_log_0",
        "TRUNCATE trunk_state",
        "TRUNCATE trunk_state, trunk_log_0, trunk_log_1",
    ],
    ids=["truncated", "deleted", "state", "both"],
)
async def test_what_is_sent_behind_an_emptied_log_is_not_taken_for_what_was_read(
    make_layer: MakeLayer, postgres_database: str, statement: str
) -> None:
    """More rows than there were, before anybody has looked: nothing is lost untold, and nothing comes twice."""
    here, there = make_layer(postgres_database), make_layer(postgres_database, gap_event="gap.said")
    channel = await member(there)
    await here.group_add("workers", "jobs")
    for number in range(20):
        await here.group_send("members", {"type": "number", "number": number})
        assert await next_of(there, channel) == {"type": "number", "number": number}
    ask(postgres_database, statement)
    for number in range(100, 140):
        await here.group_send("members", {"type": "number", "number": number})
    found: list[int] = []
    is_told = False
    while not found or found[-1] < 139:
        message = await asyncio.wait_for(there.receive(channel), 20)
        is_told = is_told or message == GAP
        found += [message["number"]] if message != GAP else []
    assert is_told
    assert found == sorted(set(found))
    assert found[0] >= 100
    # Those who have heard nothing since are told, too, and all go on.
    await eventually(lambda: here.stats().gaps_total > 0, within=20)
    await there.group_send("workers", HELLO)
    assert await next_of(here, "jobs") == HELLO
    await works(here, there)


async def test_a_schema_that_is_dropped_is_said(make_layer: MakeLayer, postgres_database: str) -> None:
    ask(postgres_database, "CREATE SCHEMA rooms")
    here = make_layer(postgres_database, schema="rooms")
    await works(here, here)
    ask(postgres_database, "DROP SCHEMA rooms CASCADE")
    with impatient(here, 1):
        await eventually(lambda: said_no(here), within=20)
    ask(postgres_database, "CREATE SCHEMA rooms")
    await works(here, here)
