"""Connections are cut, refused, or hang; what was accepted meanwhile comes afterwards, and every send ends in time."""

import asyncio
import shutil
from functools import partial
from typing import Any

import psycopg
import pytest
from channels.exceptions import ChannelFull

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.proxy import Proxy
from channels_trunk.transports.postgres import upkeep
from channels_trunk.transports.postgres.names import LOCK_CLASS, Names
from channels_trunk.transports.postgres.wire import Wire
from tests.integration.postgres.conftest import (
    GAP,
    HELLO,
    MakeLayer,
    ProxyFactory,
    ask,
    is_away,
    is_ok,
    member,
    sessions,
    terminate,
    works,
)
from tests.plugins.impatience import impatient
from tests.plugins.servers.postgres import Clusters, OwnPostgresFactory
from tests.plugins.servers.postgres_server import PostgresServer, dsn_for
from tests.plugins.servers.process import find, private_folder
from tools.server_table import NEWEST_POSTGRES


def through(gate: Proxy, dsn: str) -> str:
    """The same database by way of the proxy."""
    return dsn_for(dsn, host=gate.host, port=gate.port)


def gate_to(proxy: ProxyFactory, dsn: str) -> Proxy:
    """A proxy in front of the server of this address."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    return proxy(str(parts["host"]), int(str(parts["port"])))


async def numbers(layer: PostgresChannelLayer, channel: str, count: int) -> list[int]:
    """The numbers of the next messages."""
    async with asyncio.timeout(20):
        return [(await layer.receive(channel))["number"] for _ in range(count)]


async def test_a_send_waits_for_a_server_that_refuses_connections(
    make_layer: MakeLayer, proxy: ProxyFactory, postgres_database: str
) -> None:
    """From the moment at which the connections end: whoever sends then notices that first."""
    gate = gate_to(proxy, postgres_database)
    here = make_layer(through(gate, postgres_database), send_timeout=60, capacity=1000)
    there = make_layer(postgres_database, capacity=1000)
    channel = await member(there, "group")
    await works(here, there)
    for number in range(0, 20, 4):
        gate.refuse()
        gate.cut()
        sends = [
            asyncio.ensure_future(here.send(channel, {"type": "number", "number": number})),
            asyncio.ensure_future(here.group_send("group", {"type": "number", "number": number + 1})),
        ]
        await asyncio.sleep(0)
        sends.append(asyncio.ensure_future(here.send(channel, {"type": "number", "number": number + 2})))
        threads = asyncio.ensure_future(
            in_thread(partial(here.sync.send, "jobs", {"type": "number", "number": number + 3}))
        )
        await is_away(here)
        assert not any(send.done() for send in (*sends, threads))
        gate.resume()
        await asyncio.gather(*sends, threads)
        assert await numbers(there, channel, 3) == [number, number + 1, number + 2]
        assert await numbers(there, "jobs", 1) == [number + 3]
        await is_ok(here)


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_batch_that_was_under_way_when_the_server_began_to_refuse_comes_once(
    make_layer: MakeLayer, proxy: ProxyFactory, postgres: PostgresServer, postgres_database: str, *, is_stored: bool
) -> None:
    """Its answer was lost, and nobody could be asked for it for a while; others were sent meanwhile."""
    gate = gate_to(proxy, postgres_database)
    here = make_layer(through(gate, postgres_database), send_timeout=60, channel_capacity={"full": 1})
    there = make_layer(postgres_database)
    channel = await member(there, "group")
    await works(here, there)
    await there.send("full", HELLO)
    with psycopg.connect(postgres_database) as blocker:
        blocker.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_CLASS, Names("public", "trunk_").lock_key))
        sends = [asyncio.ensure_future(here.send(channel, {"type": "number", "number": number})) for number in range(3)]
        sends.append(asyncio.ensure_future(here.send("full", HELLO)))
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND application_name = %s"
        writer = f"channels-trunk write {here._hub.context.node}"
        await eventually(lambda: ask(postgres_database, waits, writer))
        gate.refuse()
        gate.cut()
        await is_away(here)
        sends.append(asyncio.ensure_future(here.send(channel, {"type": "number", "number": 3})))
        if not is_stored:
            assert terminate(postgres, postgres_database, f"write {here._hub.context.node}") == 1
    if is_stored:
        await eventually(
            lambda: not ask(postgres_database, "SELECT 1 FROM pg_stat_activity WHERE application_name = %s", writer)
        )
    gate.resume()
    found = await asyncio.gather(*sends, return_exceptions=True)
    assert found[:3] + found[4:] == [None] * 4
    assert isinstance(found[3], ChannelFull)
    assert await numbers(there, channel, 4) == [0, 1, 2, 3]
    assert await there.receive("full") == HELLO
    await works(here, there)


async def test_a_group_that_is_joined_again_is_heard_though_its_leave_was_cut_off(
    make_layer: MakeLayer, postgres: PostgresServer, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session that listens ends while the groups without members are told to it."""
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    channel = await member(here, "group")
    await here.group_discard("group", channel)
    cuts: list[int] = []
    script = Wire.script

    async def cut_off(wire: Wire, sql: str) -> None:
        if "UNLISTEN" in sql and not cuts:
            cuts.append(terminate(postgres, postgres_database, f"listen {here._hub.context.node}"))
        await script(wire, sql)

    monkeypatch.setattr(Wire, "script", cut_off)
    here._hub.on_io(here._hub.sweep)
    await eventually(lambda: cuts == [1])
    await here.group_add("group", channel)
    await there.group_send("group", HELLO)
    async with asyncio.timeout(20):
        assert await here.receive(channel) == HELLO


async def test_a_queue_of_notifications_that_is_full_is_waited_for(
    make_layer: MakeLayer, postgres_clusters: Clusters, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays full when the session that held it has gone, until somebody asks how full it is."""
    bundle = find(NEWEST_POSTGRES).resolve().parents[1]
    with private_folder("postgres") as folder:
        # The project may lie where the server's account cannot look.
        program = shutil.copytree(bundle, folder / "program", symlinks=True) / "bin" / "postgres"
        server = postgres_clusters.make(program, folder, {"max_notify_queue_pages": "64"})
        server.start()
        try:
            await waits_for_room(make_layer, server.fresh_database(), caplog)
        finally:
            server.close()


async def waits_for_room(make_layer: MakeLayer, dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """Fill the queue, see that the layer takes it for away, and that it goes on."""
    here, there = make_layer(dsn), make_layer(dsn)
    await works(here, there)
    with psycopg.connect(dsn, autocommit=True) as idle:
        idle.execute("LISTEN elsewhere")
        idle.execute("BEGIN")
        idle.execute("SELECT 1")
        assert not [finding.code for finding in here.examine()]
        fill_a_third(dsn)
        await eventually(lambda: "more than 25 % of the server's queue of notif" in here.health().detail, within=20)
        assert caplog.text.count("more than 25 %") == 2  # once for each process
        assert [finding.code for finding in here.examine()] == ["notify-queue"]
        fill_the_queue(dsn)
        with impatient(here, 3), pytest.raises(TransportUnavailable, match="NOTIFY queue"):
            await here.send(await there.new_channel(), HELLO)
        await is_away(here)
        receiving = asyncio.create_task(here.receive("jobs"))
        await eventually(lambda: "54000" in here.health().detail, within=20)
        assert not receiving.done()
    await is_ok(here, within=30)
    await there.send("jobs", HELLO)
    assert await asyncio.wait_for(receiving, 20) == HELLO
    await works(here, there)
    await eventually(lambda: not here.health().detail, within=20)
    for layer in (here, there):
        await layer.close()  # before their server is gone


def fill_the_queue(dsn: str) -> None:
    """Until the server refuses."""
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        fill_one_by_one(dsn)


def fill_a_third(dsn: str) -> None:
    """Of 64 pages, each of which has room for one."""
    fill_one_by_one(dsn, count=21)


def fill_one_by_one(dsn: str, *, count: int = 10_000) -> None:
    """Return if there is room for so many."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(count):
            connection.execute("SELECT pg_notify('elsewhere', %s || repeat('x', 7000))", [str(number)])


async def test_a_group_is_joined_though_the_session_that_listens_is_cut_under_it(
    make_layer: MakeLayer, postgres: PostgresServer, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as the server is there a cut is nobody's business."""
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    channel = await member(here, "another")
    await works(there, there)
    cuts: list[int] = []
    script = Wire.script

    async def cut_off(wire: Wire, sql: str) -> None:
        if sql.startswith("LISTEN") and not cuts:
            cuts.append(terminate(postgres, postgres_database, f"listen {here._hub.context.node}"))
        await script(wire, sql)

    monkeypatch.setattr(Wire, "script", cut_off)
    await here.group_add("group", channel)
    assert cuts == [1]
    await there.group_send("group", HELLO)
    async with asyncio.timeout(20):
        assert await here.receive(channel) == HELLO


async def test_what_was_sent_while_a_process_was_cut_off_comes_afterwards(
    make_layer: MakeLayer, proxy: ProxyFactory, postgres_database: str
) -> None:
    gate = gate_to(proxy, postgres_database)
    here, there = make_layer(postgres_database), make_layer(through(gate, postgres_database))
    channel = await member(there)
    working = asyncio.ensure_future(there.receive("jobs"))
    await works(here, there)
    gate.refuse()
    gate.cut()
    await is_away(there)
    for number in range(0, 90, 2):
        await here.send(channel, {"type": "direct", "number": number})
        await here.group_send("members", {"type": "group", "number": number + 1, "body": "x" * 200 * number})
    await here.send("jobs", HELLO)
    gate.resume()
    assert await numbers(there, channel, 90) == list(range(90))
    assert await asyncio.wait_for(working, 20) == HELLO
    assert there.stats().gaps_total == 0
    assert there.stats().reconnects_total == 1
    await works(here, there)


async def test_a_network_that_hangs(make_layer: MakeLayer, proxy: ProxyFactory, postgres_database: str) -> None:
    gate = gate_to(proxy, postgres_database)
    here, there = make_layer(through(gate, postgres_database)), make_layer(postgres_database)
    channel = await member(there)
    await here.send(channel, {"type": "before"})
    waiting = asyncio.ensure_future(here.receive("jobs"))
    await works(there, there)
    gate.hang()
    with impatient(here, 1.5):
        async with asyncio.timeout(2 * 1.5 + 20):
            for _ in range(2):
                with pytest.raises(TransportUnavailable, match=r"send_timeout|did not answer publish"):
                    await here.send(channel, {"type": "lost"})
    assert not waiting.done()
    gate.cut()
    gate.resume()
    await is_ok(here)
    await there.send("jobs", HELLO)
    assert await asyncio.wait_for(waiting, 20) == HELLO
    await works(here, there)
    assert here.stats().gaps_total == 0


async def test_a_server_that_hangs(make_layer: MakeLayer, own_postgres: OwnPostgresFactory) -> None:
    server = own_postgres()
    dsn = server.fresh_database()
    here, there = make_layer(dsn), make_layer(dsn, gap_event=GAP["type"])
    channel = await member(there)
    waiting = asyncio.ensure_future(there.receive(channel))
    await works(here, here)
    server.pause()
    with impatient(here, 1.5), pytest.raises(TransportUnavailable, match=r"send_timeout|did not answer publish"):
        async with asyncio.timeout(1.5 + 20):
            await here.send(channel, {"type": "lost or late"})
    await is_away(here)
    assert not waiting.done()
    server.resume()
    await is_ok(here, there)
    await here.send(channel, {"type": "after"})
    async with asyncio.timeout(20):
        got = [await waiting]
        while got[-1] != {"type": "after"}:
            got.append(await there.receive(channel))
    assert [message["type"] for message in got] in (["lost or late", "after"], ["after"])
    await works(here, there)


async def test_a_connection_that_listens_and_hears_nothing_is_made_again(
    make_layer: MakeLayer, proxy: ProxyFactory, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_DEAF_AFTER", 3.0)
    gate = gate_to(proxy, postgres_database)
    here = make_layer(postgres_database)
    there = make_layer(postgres_database, listen_dsn=through(gate, postgres_database))
    channel = await member(there)
    gate.hang()
    for number in range(50):
        await here.send(channel, {"type": "direct", "number": number})
    await is_away(there)
    gate.resume()
    assert await numbers(there, channel, 50) == list(range(50))
    assert there.stats().gaps_total == 0


async def test_no_connection_is_left_for_us(make_layer: MakeLayer, own_postgres: OwnPostgresFactory) -> None:
    server = own_postgres(max_connections=8, superuser_reserved_connections=2)
    dsn = server.fresh_database()
    here = make_layer(dsn)
    others = [psycopg.connect(dsn) for _ in range(5)]
    try:
        with (
            impatient(here, 3),
            pytest.raises(TransportUnavailable, match=r"send_timeout=3 s: PostgreSQL at .*remaining connection slots"),
        ):
            await here.send("jobs", HELLO)
    finally:
        for other in others:
            other.close()
    await is_ok(here)
    await works(here, here)


async def hold_append_lock(dsn: str) -> "psycopg.AsyncConnection[Any]":
    """Let whoever appends wait, until the connection is closed."""
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    key = Names("public", "trunk_").lock_key
    await connection.execute("SELECT pg_advisory_lock(%s::integer, %s::integer)", (LOCK_CLASS, key))
    return connection


async def test_a_batch_is_not_taken_for_one_from_before_the_connection_was_made_again(
    make_layer: MakeLayer, proxy: ProxyFactory, postgres: PostgresServer, postgres_database: str
) -> None:
    """The sender asks the log whether a batch was stored when its session was cut; an older one must not answer."""
    gate = gate_to(proxy, postgres_database)
    here, there = make_layer(through(gate, postgres_database), send_timeout=20), make_layer(postgres_database)
    channel = await there.new_channel()
    for number in range(5):
        await here.send(channel, {"type": "direct", "number": number})
    gate.refuse()
    gate.cut()
    await is_away(here)
    gate.resume()
    await is_ok(here)
    async with await hold_append_lock(postgres_database):
        sending = asyncio.ensure_future(here.send(channel, {"type": "direct", "number": 5}))
        waits = (
            "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'channels-trunk write%%' AND wait_event = %s"
        )
        await eventually(lambda: ask(postgres_database, waits, "advisory"), within=10)
        # Of a connection that was cut a moment ago the server may still have a session.
        assert terminate(postgres, postgres_database, "write") >= 2
    await sending
    assert await numbers(there, channel, 6) == list(range(6))


async def test_a_database_that_is_dropped_and_made_again(make_layer: MakeLayer, postgres: PostgresServer) -> None:
    dsn = postgres.fresh_database()
    here, there = make_layer(dsn), make_layer(dsn, gap_event=GAP["type"])
    channel = await member(there)
    await works(here, there)
    postgres.drop_database(dsn)
    with impatient(here, 1), pytest.raises(Exception, match=r"does not exist|send_timeout"):
        await here.send(channel, HELLO)
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    owner = psycopg.conninfo.conninfo_to_dict(dsn)["user"]
    postgres.execute(
        psycopg.sql.SQL("CREATE DATABASE {} OWNER {}").format(
            psycopg.sql.Identifier(str(name)), psycopg.sql.Identifier(str(owner))
        )
    )
    try:
        async with asyncio.timeout(20):
            assert await there.receive(channel) == GAP
        await is_ok(here, there)
        await works(here, there)
        await here.group_send("members", HELLO)
        assert await there.receive(channel) == HELLO
    finally:
        await here.close()
        await there.close()
        postgres.drop_database(dsn)


async def test_closed_layers_leave_no_session(make_layer: MakeLayer, postgres_database: str) -> None:
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    await works(here, there)
    assert len(sessions(postgres_database)) == 6
    await here.close()
    await eventually(lambda: len(sessions(postgres_database)) == 3)
    await there.close()
    await eventually(lambda: not sessions(postgres_database))


async def test_an_opening_that_is_cut_short_forgets_no_position(
    make_layer: MakeLayer, postgres: PostgresServer, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_layer(postgres_database, capacity=1000), make_layer(postgres_database, gap_event=GAP["type"])
    channel = await member(there)
    for number in range(30):
        await here.send(channel, {"type": "direct", "number": number})
    assert await numbers(there, channel, 30) == list(range(30))
    find_place, failures = upkeep.Upkeep.find_place, [1] * 6

    async def cut_short(self: upkeep.Upkeep, position: int) -> upkeep.Place:
        if failures:
            failures.pop()
            raise TransportUnavailable("cut")
        return await find_place(self, position)

    monkeypatch.setattr(upkeep.Upkeep, "find_place", cut_short)
    await eventually(lambda: not failures, within=20)  # the next heartbeat opens anew, and that fails once
    await is_ok(here, there)
    await here.send(channel, {"type": "direct", "number": 30})
    assert await numbers(there, channel, 1) == [30]
    assert there.stats().gaps_total == 0
