"""What a message costs the server, by pg_stat_statements: a group_send is one statement, whatever its members."""

import asyncio

import pytest

from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.rig import Rig
from tests.integration.postgres.conftest import HELLO, ask
from tests.plugins.servers.postgres_server import PostgresServer, dsn_for

PROCESSES = 16
SENDS = 50
# The layer's statements about messages; those of its maintenance come by the clock.
COUNTED = (
    "SELECT coalesce(sum(calls), 0)::int, coalesce(sum(rows), 0)::int FROM pg_stat_statements s "
    "JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database() "
    "AND query ~ '(publish|FROM .*log_[01]|queue|members)' "
    "AND query !~ '(min\\(id\\)|expires_at <|greatest|rotate|pg_stat)'"
)


class Meter:
    """Counts statements, by the superuser."""

    def __init__(self, server: PostgresServer, dsn: str) -> None:
        self._dsn = dsn_for(server.superuser_dsn, database=dsn.rpartition("/")[2])
        ask(self._dsn, "CREATE EXTENSION pg_stat_statements")

    def reset(self) -> None:
        """Count from here on."""
        ask(self._dsn, "SELECT pg_stat_statements_reset()")

    def read(self) -> tuple[int, int]:
        """Calls and rows since."""
        [(calls, rows)] = ask(self._dsn, COUNTED)
        return int(calls), int(rows)


@pytest.mark.timeout(180)
def test_a_group_send_is_one_statement_whatever_the_members(postgres: PostgresServer, postgres_database: str) -> None:
    meter = Meter(postgres, postgres_database)
    under_test = LayerUnderTest(
        backend="channels_trunk.layers.PostgresChannelLayer",
        config={"dsn": postgres_database, "send_timeout": 30},
        patience=5,  # sixteen processes share the machine
    )
    rig = Rig(under_test, features=Features(), seed="cost")
    costs: dict[int, tuple[int, int]] = {}

    async def main() -> None:
        here, peers = rig.here(), await rig.peers(PROCESSES)
        members: list[list[str]] = [[] for _ in peers]
        for total in (PROCESSES, 10_000):
            missing = total // PROCESSES - len(members[0])
            more = await asyncio.gather(*(peer.join("room", count=missing) for peer in peers))
            members = [old + new for old, new in zip(members, more, strict=True)]
            await here.group_send("room", HELLO)
            meter.reset()
            for _ in range(SENDS):
                await here.group_send("room", HELLO)
            costs[total] = meter.read()
            got = await asyncio.gather(
                *(peer.collect_each(channels, count=SENDS + 1) for peer, channels in zip(peers, members, strict=True))
            )
            assert all(messages == [HELLO] * (SENDS + 1) for each in got for messages in each)
        await here.layer.close()

    rig.run(main, within=150)
    assert costs == {PROCESSES: (SENDS, SENDS), 10_000: (SENDS, SENDS)}


def test_joining_a_group_that_is_heard_costs_nothing(postgres: PostgresServer, postgres_database: str) -> None:
    meter = Meter(postgres, postgres_database)
    rig = Rig(
        LayerUnderTest(backend="channels_trunk.layers.PostgresChannelLayer", config={"dsn": postgres_database}),
        features=Features(),
        seed="joins",
    )

    async def main() -> None:
        here = rig.here()
        await here.join("room")
        meter.reset()
        await here.join("room", count=500)
        assert meter.read() == (0, 0)

    rig.run(main, within=40)
