"""Other programs publish in the plain format, by the names in docs/reference/rabbitmq-topology.md."""

import asyncio
from collections.abc import AsyncIterator

import aiormq
import msgspec
import pytest
from cryptography.fernet import Fernet

from channels_trunk.testing import eventually
from tests.integration.rabbitmq.conftest import MakeLayer

NEWS = {"type": "news", "text": "from elsewhere", "list": [1, None, {"a": b"bytes"}]}


@pytest.fixture
async def publisher(url: str) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    async with await aiormq.connect(url) as connection:
        yield await connection.channel()


async def test_another_program_sends_to_a_group(make_layer: MakeLayer, publisher: aiormq.abc.AbstractChannel) -> None:
    one, two = make_layer(), make_layer()
    channels = [await one.new_channel(), await two.new_channel()]
    for layer, channel in zip((one, two), channels, strict=True):
        await layer.group_add("news", channel)
    await one.group_add("news", "worker")
    body = msgspec.msgpack.encode({**NEWS, "__asgi_group__": "news"})
    await publisher.basic_publish(body, exchange="asgi.groups", routing_key="news")
    async with asyncio.timeout(60):
        assert await one.receive(channels[0]) == NEWS
        assert await two.receive(channels[1]) == NEWS
        assert await two.receive("worker") == NEWS


async def test_another_program_sends_to_a_channel(make_layer: MakeLayer, publisher: aiormq.abc.AbstractChannel) -> None:
    layer = make_layer(serializer_format="json")
    channel = await layer.new_channel()
    node = channel.partition("!")[0].rpartition(".")[2]
    message = {"type": "news"}
    body = msgspec.msgpack.encode({**message, "__asgi_channel__": channel})
    await publisher.basic_publish(body, exchange="asgi.groups", routing_key=f"!{node}")
    async with asyncio.timeout(60):
        assert await layer.receive(channel) == message


async def test_another_program_gives_work(make_layer: MakeLayer, publisher: aiormq.abc.AbstractChannel) -> None:
    layer = make_layer()
    waiting = asyncio.ensure_future(layer.receive("jobs"))
    body = msgspec.msgpack.encode({**NEWS, "__asgi_channel__": "jobs"})
    await layer.send("jobs", {"type": "made"})  # now there is a queue
    await publisher.basic_publish(body, routing_key="asgi.channel.jobs", mandatory=True)
    async with asyncio.timeout(60):
        assert await waiting == {"type": "made"}
        assert await layer.receive("jobs") == NEWS


async def test_channels_rabbitmqs_own_exchange(make_layer: MakeLayer, publisher: aiormq.abc.AbstractChannel) -> None:
    layer = make_layer(groups_exchange="groups")
    channel = await layer.new_channel()
    await layer.group_add("news", channel)
    body = msgspec.msgpack.encode({**NEWS, "__asgi_group__": "news"})
    await publisher.basic_publish(body, exchange="groups", routing_key="news")
    async with asyncio.timeout(60):
        assert await layer.receive(channel) == NEWS


async def test_with_keys_nobody_elses_messages_are_taken(
    make_layer: MakeLayer, publisher: aiormq.abc.AbstractChannel
) -> None:
    layer = make_layer(symmetric_encryption_keys=[Fernet.generate_key()])
    channel = await layer.new_channel()
    await layer.group_add("news", channel)
    body = msgspec.msgpack.encode({**NEWS, "__asgi_group__": "news"})
    await publisher.basic_publish(body, exchange="asgi.groups", routing_key="news")
    await layer.group_send("news", {"type": "own"})
    assert await layer.receive(channel) == {"type": "own"}
    await layer.send(channel, {"type": "last"})
    await eventually(lambda: layer.stats().skipped_frames_total == 1)
    assert await layer.receive(channel) == {"type": "last"}
