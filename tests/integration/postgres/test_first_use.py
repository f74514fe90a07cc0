"""The tables are made by whoever comes first, in the schema and with the names that the user chose."""

import asyncio
import json
import os
import sys

import pytest

from tests.integration.postgres.conftest import HELLO, MakeLayer, ask, works

PROCESSES = 20
RACER = """
import asyncio, json, sys
from channels_trunk.layers import PostgresChannelLayer

async def main():
    layer = PostgresChannelLayer(dsn=sys.argv[1], send_timeout=240)
    channel = await layer.new_channel()
    sys.stdin.readline()
    await layer.group_add("racers", channel)
    print(channel, flush=True)
    for other in json.loads(sys.stdin.readline()):
        await layer.send(other, {"type": "raced", "by": sys.argv[2]})
    got = {(await layer.receive(channel))["by"] for _ in range(int(sys.argv[3]))}
    await layer.close()
    print(len(got), flush=True)

asyncio.run(main())
"""


# Twenty interpreters at once take what time the machine has; whatever hangs ends with the test.
@pytest.mark.timeout(300)
async def test_twenty_processes_race_for_the_first_use(postgres_database: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    racers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RACER, postgres_database, str(number), str(PROCESSES)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        for number in range(PROCESSES)
    ]
    try:
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(b"go\n")
        channels = [await line_of(racer) for racer in racers]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(json.dumps(channels).encode() + b"\n")
        assert [await line_of(racer) for racer in racers] == [str(PROCESSES)] * PROCESSES
        assert [await racer.wait() for racer in racers] == [0] * PROCESSES
    finally:
        for racer in racers:
            if racer.returncode is None:
                racer.kill()
            await racer.communicate()
    assert ask(postgres_database, "SELECT name, value FROM trunk_meta") == [("schema_version", 2)]
    assert ask(postgres_database, "SELECT count(*) FROM trunk_state") == [(1,)]


async def line_of(racer: asyncio.subprocess.Process) -> str:
    """What it says next."""
    assert racer.stdout is not None
    return (await racer.stdout.readline()).decode().strip()


def tables(dsn: str) -> set[str]:
    """Every table there is, with its schema."""
    rows = ask(dsn, "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information)'")
    return {str(name) for (name,) in rows}


async def test_names_of_the_users_choice(make_layer: MakeLayer, postgres_database: str) -> None:
    ask(postgres_database, 'CREATE SCHEMA "Rooms"')
    longest = "P" * 41
    sets = [
        {"schema": "Rooms"},
        {"table_prefix": "chat_"},
        {"schema": "Rooms", "table_prefix": longest},
        {"prefix": 'it\'s a "prefix" \\ %s {p}'},
    ]
    pairs = [(make_layer(postgres_database, **names), make_layer(postgres_database, **names)) for names in sets]
    for here, there in pairs:
        await works(here, there)
    wanted = [("Rooms", "trunk_"), ("public", "chat_"), ("Rooms", longest.lower()), ("public", "trunk_")]
    kinds = ("meta", "state", "log_0", "log_1", "queue", "members", "nodes")
    assert tables(postgres_database) == {f"{schema}.{start}{kind}" for schema, start in wanted for kind in kinds}


async def test_layers_on_different_tables_or_prefixes_do_not_hear_each_other(
    make_layer: MakeLayer, postgres_database: str
) -> None:
    layers = [make_layer(postgres_database, **names) for names in ({}, {"table_prefix": "b_"}, {"prefix": "c"})]
    channels = [await layer.new_channel() for layer in layers]
    for layer, channel in zip(layers, channels, strict=True):
        await layer.group_add("room", channel)
    for number, layer in enumerate(layers):
        await layer.group_send("room", {"type": "own", "number": number})
        await layer.send("jobs", {"type": "own", "number": number})
    for number, (layer, channel) in enumerate(zip(layers, channels, strict=True)):
        assert await layer.receive(channel) == {"type": "own", "number": number}
        assert await layer.receive("jobs") == {"type": "own", "number": number}
        await layer.send(channel, HELLO)
        assert await layer.receive(channel) == HELLO


async def test_without_auto_create_after_the_owner_ran_the_statements(
    make_layer: MakeLayer, postgres_database: str
) -> None:
    maker = make_layer(postgres_database, table_prefix="made_")
    ask(postgres_database, maker.schema_script())
    here, there = (make_layer(postgres_database, table_prefix="made_", auto_create=False) for _ in range(2))
    await works(here, there)


def test_memberships_last_as_long_as_in_channels_postgres(postgres_database: str, make_layer: MakeLayer) -> None:
    assert make_layer(postgres_database).group_expiry == 0
    assert make_layer(postgres_database, group_expiry=60).group_expiry == 60
