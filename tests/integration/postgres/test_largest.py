"""Messages that are larger than PostgreSQL takes. That is a gibibyte, and too much for a test."""

import asyncio
from typing import Any

import pytest
from channels.exceptions import MessageTooLarge

from channels_trunk.transports.postgres import writer
from tests.integration.postgres.conftest import MakeLayer
from tests.plugins.servers.postgres_server import PostgresServer


def of(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "x", "data": bytes(size), **more}


async def test_they_are_refused_and_others_go_on(
    make_layer: MakeLayer, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_LARGEST", 300_000)
    dsn = postgres.fresh_database()
    here, there = make_layer(dsn), make_layer(dsn)
    channel = await there.new_channel()
    await here.new_channel()
    for target in (channel, "jobs"):
        # Several together are more than it takes, and go one after the other.
        sizes = [100_000, 400_000] * 5
        outcomes = await asyncio.gather(
            *(here.send(target, of(size, number=number)) for number, size in enumerate(sizes)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), MessageTooLarge] * 5
        assert "PostgreSQL takes 300000 bytes" in str(outcomes[1])
        async with asyncio.timeout(60):
            assert [(await there.receive(target))["number"] for _ in range(5)] == [0, 2, 4, 6, 8]
    for number in range(5):
        await there.group_add("workers", f"worker{number}")
    with pytest.raises(MessageTooLarge, match="a copy for each normal channel"):
        await here.group_send("workers", of(100_000))
    await here.group_send("workers", of(10_000, number=1))
    async with asyncio.timeout(60):
        assert (await there.receive("worker4"))["number"] == 1
    assert here.stats().reconnects_total == 0
