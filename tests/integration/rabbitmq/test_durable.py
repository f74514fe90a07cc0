"""Queues of normal channels that do not survive the broker: each version has them, if its operator does."""

import asyncio

import pytest

from channels_trunk.exceptions import TransportError
from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing.commands import in_thread
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer, is_away, is_ok, works
from tests.integration.rabbitmq.test_operator import listed
from tests.plugins.servers import OwnRabbitFactory, RabbitServer, on_every_rabbitmq, on_rabbitmq
from tools.server_table import NEWEST_RABBITMQ, RABBITMQ_40


@on_every_rabbitmq
async def test_queues_that_are_not_durable(make_layer: MakeLayer, broker: RabbitServer, url: str) -> None:
    here, there = make_layer(durable=False, expiry=600), make_layer(durable=False, expiry=600)
    await works(here, there)
    await here.send("jobs", {"type": "lost"})
    found = dict(await in_thread(lambda: listed(broker, url, "queues", "name", "durable")))
    assert found["asgi.channel.jobs"] == found["asgi.ledger"] == "false"
    await in_thread(broker.stop_app)
    await is_away(here, there)
    await in_thread(broker.start_app)
    await is_ok(here, there)
    await here.send("jobs", HELLO)
    async with asyncio.timeout(60):
        assert await there.receive("jobs") == HELLO
    await works(here, there)


@on_rabbitmq(RABBITMQ_40, NEWEST_RABBITMQ)
async def test_an_operator_who_forbids_them(own_rabbit: OwnRabbitFactory) -> None:
    broker = await in_thread(own_rabbit)
    with (broker.folder / "rabbitmq.conf").open("a") as file:
        file.write("deprecated_features.permit.transient_nonexcl_queues = false\n")
    await in_thread(broker.restart)
    layer = RabbitMQChannelLayer(host=broker.url, durable=False)
    try:
        with pytest.raises(TransportError) as caught:
            await layer.send("jobs", HELLO)
        assert "transient_nonexcl_queues" in str(caught.value)
    finally:
        await layer.close()
