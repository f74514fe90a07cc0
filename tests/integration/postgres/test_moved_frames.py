"""With keys, frames that somebody moved within the tables are refused and counted."""

import asyncio

import pytest

from channels_trunk.testing import eventually
from tests.integration.postgres.conftest import MakeLayer, ask, works

KEYS = {"symmetric_encryption_keys": ["opensesame"]}
OWN, SECRET = {"type": "own"}, {"type": "swordfish"}
WITHIN = 20.0
LOG = "(SELECT * FROM trunk_log_0 UNION ALL SELECT * FROM trunk_log_1) l WHERE id > {after} AND origin = '{node}'"
LAST = "SELECT coalesce(max(id), 0) FROM (SELECT id FROM trunk_log_0 UNION ALL SELECT id FROM trunk_log_1) l"
MOVE = (
    "INSERT INTO trunk_queue (id, prefix, channel, expires_at, frame) "
    "SELECT nextval('trunk_queue_ids'), 'asgi', '{to}', 9e9, frame FROM {source}"
)


@pytest.mark.parametrize("kind", ["group", "mailbox", "control", "channel"])
async def test_moved_to_a_normal_channel(make_layer: MakeLayer, postgres_database: str, kind: str) -> None:
    one, other = make_layer(postgres_database, **KEYS), make_layer(postgres_database, **KEYS)
    await works(one, other)
    channel = await other.new_channel()
    [(after,)] = ask(postgres_database, LAST)
    source = LOG.format(after=after, node=one.stats().node)
    if kind == "group":
        await one.group_send("second", SECRET)
    elif kind == "mailbox":
        await one.send(channel, SECRET)
    elif kind == "control":
        await one.group_add("room", channel)
    else:
        await one.send("first", SECRET)
        source = "trunk_queue WHERE channel = 'first'"
    [(count,)] = ask(postgres_database, f"SELECT count(*) FROM {source}")
    assert count > 0
    before = other.stats().skipped_frames_total
    ask(postgres_database, MOVE.format(to="second", source=source))
    await one.send("second", OWN)
    async with asyncio.timeout(WITHIN):
        assert await other.receive("second") == OWN
    await eventually(lambda: other.stats().skipped_frames_total == before + count, within=WITHIN)


async def test_a_message_of_a_normal_channel_is_none_of_the_log(make_layer: MakeLayer, postgres_database: str) -> None:
    one, other = make_layer(postgres_database, **KEYS), make_layer(postgres_database, **KEYS)
    await works(one, other)
    await one.send("first", SECRET)
    # Somebody puts it in the place of whatever is written next.
    ask(
        postgres_database,
        "CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "NEW.frame := (SELECT frame FROM trunk_queue WHERE channel = 'first'); RETURN NEW; END $$",
    )
    for table in ("trunk_log_0", "trunk_log_1"):
        ask(postgres_database, f"CREATE TRIGGER moved BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION moved()")
    # It is too large for a notification, and read from the table.
    await one.send(await other.new_channel(), {"type": "large", "text": "x" * 10_000})
    await eventually(lambda: other.stats().skipped_frames_total == 1, within=WITHIN)
    ask(postgres_database, "DROP FUNCTION moved() CASCADE")
    await works(one, other)
    assert other.stats().skipped_frames_total == 1
