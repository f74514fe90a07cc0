"""The exchange for groups: made by the first process, removed by the last, and as an earlier version left it."""

import asyncio
import logging
from functools import partial

import aiormq
import pytest

from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer, is_ok, works
from tests.plugins.servers import RabbitServer, on_every_rabbitmq

pytestmark = on_every_rabbitmq

AUTO_DELETE, PLAIN = "asgi.groups\ttrue", "asgi.groups\tfalse"


async def exchange(broker: RabbitServer, url: str) -> list[str]:
    """The exchange for groups, if there is one, and whether it goes with the last queue bound to it."""

    def listed() -> list[str]:
        vhost = url.rpartition("/")[2]
        text = broker.ctl("list_exchanges", "--vhost", vhost, "--no-table-headers", "name", "auto_delete")
        return [line for line in text.splitlines() if line.startswith("asgi.groups")]

    return list(await in_thread(listed))


async def is_exchange(broker: RabbitServer, url: str, *lines: str) -> bool:
    return await exchange(broker, url) == list(lines)


async def left_by_an_earlier_version(connection: aiormq.abc.AbstractConnection) -> None:
    """What a process of an earlier version makes, and keeps for as long as it is connected."""
    channel = await connection.channel()
    await channel.exchange_declare("asgi.groups", exchange_type="direct", auto_delete=True)
    await channel.queue_declare("asgi.node.earlier.1", exclusive=True)
    await channel.queue_bind("asgi.node.earlier.1", "asgi.groups", routing_key="group")


async def test_the_last_to_leave_removes_it(make_layer: MakeLayer, broker: RabbitServer, url: str) -> None:
    here, there = make_layer(), make_layer()
    await works(here, there)
    assert await exchange(broker, url) == [PLAIN]
    await here.close()
    channel = await there.new_channel()
    await there.group_add("group", channel)
    await there.group_send("group", HELLO)
    assert await there.receive(channel) == HELLO
    assert there.stats().reconnects_total == 0
    await there.close()
    await eventually(partial(is_exchange, broker, url), within=20)
    await works(here, there)


async def test_what_nobody_removed_is_used_again_and_removed(
    make_layer: MakeLayer, broker: RabbitServer, url: str
) -> None:
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).exchange_declare("asgi.groups", exchange_type="direct")
    layer = make_layer()
    await works(layer, layer)
    await layer.close()
    await eventually(partial(is_exchange, broker, url), within=20)


async def test_it_stays_for_who_is_not_connected(make_layer: MakeLayer, broker: RabbitServer, url: str) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    await there.group_add("group", channel)
    await here.group_send("group", HELLO)
    await in_thread(broker.close_all_connections)
    await here.close()
    await is_ok(there)
    await there.group_send("group", {"type": "second"})
    async with asyncio.timeout(60):
        assert [await there.receive(channel) for _ in range(2)] == [HELLO, {"type": "second"}]
    assert there.stats().gaps_total == 0


async def test_an_earlier_versions_exchange_is_used_and_can_be_made_anew(
    make_layer: MakeLayer, broker: RabbitServer, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with await aiormq.connect(url) as connection:
        await left_by_an_earlier_version(connection)
        here, there = make_layer(), make_layer(gap_event="gap.said")
        with caplog.at_level(logging.WARNING, "channels_trunk"):
            await works(here, there)
        told = [record for record in caplog.records if "made by an earlier version" in record.getMessage()]
        assert len(told) == 2  # once by each process
        await here.group_send("group", HELLO)
        heard = await (await connection.channel()).basic_get("asgi.node.earlier.1", no_ack=True)
        assert heard.body  # so both versions reach each other
    assert await exchange(broker, url) == [AUTO_DELETE]
    channel = await there.new_channel()
    await there.group_add("group", channel)
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).exchange_delete("asgi.groups")
    for layer in (here, there):
        layer._hub.context.sink.maintain_soon()
    async with asyncio.timeout(60):
        assert await there.receive(channel) == {"type": "gap.said"}
    await eventually(lambda: here.stats().reconnects_total == there.stats().reconnects_total == 1, within=20)
    await is_ok(here, there)
    await works(here, there)
    await here.group_send("group", HELLO)
    assert await there.receive(channel) == HELLO
    assert await exchange(broker, url) == [PLAIN]
