"""A machine whose clock is wrong, beside one whose clock is right: the server's clock decides what has expired."""

import asyncio

import pytest

from channels_trunk.clock import SYSTEM_CLOCK
from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from tests.integration.postgres.conftest import HELLO, MakeLayer, ask, member

HOUR = 3600.0


class WrongClock:
    """The wall clock of one layer."""

    def __init__(self, layer: PostgresChannelLayer, seconds: float) -> None:
        self.seconds = seconds
        layer._hub.wall_clock._own = lambda: SYSTEM_CLOCK.wall() + self.seconds


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_a_wrong_clock_removes_nothing_and_loses_nothing(
    postgres_database: str, make_layer: MakeLayer, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    right, wrong = make_layer(postgres_database), make_layer(postgres_database)
    WrongClock(wrong, seconds)
    # The first of all that it does: it has not seen the server's clock yet.
    await wrong.send("first", HELLO)
    await right.group_add("group", "worker")
    mine, theirs = await member(right, "both"), await member(wrong, "both")
    for _ in range(2):
        await right.send("jobs", HELLO)
    await wrong.clean_expired()
    async with asyncio.timeout(20):
        assert await right.receive("first") == HELLO
        assert await wrong.receive("jobs") == HELLO
        assert await right.receive("jobs") == HELLO
        for sender in (right, wrong):
            await sender.group_send("both", HELLO)
            await sender.group_send("group", HELLO)
            for reader, channel in ((right, mine), (wrong, theirs), (right, "worker")):
                assert await reader.receive(channel) == HELLO
            await sender.send("jobs", HELLO)
    await wrong.clean_expired()
    assert ask(postgres_database, "SELECT count(*) FROM trunk_queue") == [(2,)]
    assert ask(postgres_database, "SELECT count(*) FROM trunk_members") == [(1,)]
    word = "ahead of" if seconds > 0 else "behind"
    said = f"this machine's clock is 3600.0 s {word} the engine's, by which messages expire"
    assert wrong.health().detail == said
    assert right.health().detail == ""
    assert [record.getMessage() for record in caplog.records].count(said) == 1


async def test_a_clock_that_is_set_while_a_layer_is_open(postgres_database: str, make_layer: MakeLayer) -> None:
    """What is claimed before the layer has noticed is handed over, too."""
    right, wrong = make_layer(postgres_database), make_layer(postgres_database)
    clock = WrongClock(wrong, 0)
    await wrong.send("other", HELLO)
    assert wrong.health().detail == ""
    clock.seconds = HOUR
    await right.send("jobs", HELLO)
    async with asyncio.timeout(20):
        assert await wrong.receive("jobs") == HELLO
    await eventually(lambda: "clock is 3600" in wrong.health().detail)
    clock.seconds = 0
    await eventually(lambda: not wrong.health().detail)


async def test_what_has_expired_by_the_servers_clock_is_removed(postgres_database: str, make_layer: MakeLayer) -> None:
    wrong = make_layer(postgres_database, expiry=1, group_expiry=1)
    WrongClock(wrong, -HOUR)
    await wrong.send("jobs", HELLO)
    await wrong.group_add("group", "worker")

    async def all_is_gone() -> bool:
        await wrong.clean_expired()
        [(rows,)] = ask(
            postgres_database, "SELECT (SELECT count(*) FROM trunk_queue) + (SELECT count(*) FROM trunk_members)"
        )
        return not rows

    await eventually(all_is_gone, within=20)
