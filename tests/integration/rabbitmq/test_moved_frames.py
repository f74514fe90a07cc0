"""With keys, what somebody publishes anew under another key, or to another queue, is refused and counted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiormq
import pytest

from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing import eventually
from tests.integration.rabbitmq.conftest import MakeLayer

KEYS = {"symmetric_encryption_keys": ["opensesame"]}
FRAME_TYPE = "application/vnd.channels-trunk.frame"
OWN, SECRET = {"type": "own"}, {"type": "swordfish"}
WITHIN = 20.0


class Wire(NamedTuple):
    """Somebody who may read and write at the broker, and has no key."""

    channel: aiormq.abc.AbstractChannel
    caught: list[bytes]

    async def listen(self, key: str) -> None:
        """Have a copy of what goes to the groups exchange under a key."""
        await self.channel.queue_bind(self.queue, "asgi.groups", key)

    @property
    def queue(self) -> str:
        """Where copies come."""
        return "copies"

    async def last(self) -> bytes:
        """The frame that was caught last, when there is one."""
        await eventually(lambda: bool(self.caught), within=WITHIN)
        return self.caught[-1]

    async def publish(self, frame: bytes, *, key: str, exchange: str = "asgi.groups") -> None:
        """Publish a frame as if it were new."""
        properties = aiormq.spec.Basic.Properties(content_type=FRAME_TYPE, message_id=f"somebody.{id(frame):x}")
        await self.channel.basic_publish(frame, exchange=exchange, routing_key=key, properties=properties)


@pytest.fixture
async def wire(url: str) -> AsyncIterator[Wire]:
    async with await aiormq.connect(url) as connection:
        made = Wire(await connection.channel(), [])
        await made.channel.queue_declare(made.queue)

        async def catch(message: Any) -> None:
            made.caught.append(message.body)

        await made.channel.basic_consume(made.queue, catch, no_ack=True)
        yield made


def key_of(layer: RabbitMQChannelLayer) -> str:
    return f"!{layer.stats().node}"


async def skips(layer: RabbitMQChannelLayer, count: int = 1) -> None:
    await eventually(lambda: layer.stats().skipped_frames_total == count, within=WITHIN)


@pytest.mark.parametrize("kind", ["group", "mailbox", "control"])
async def test_moved_to_a_normal_channel(make_layer: MakeLayer, wire: Wire, kind: str) -> None:
    one, other = make_layer(**KEYS), make_layer(**KEYS)
    channel = await other.new_channel()
    await one.send("second", OWN)  # which makes the queue
    for key in ("first", key_of(other)):
        await wire.listen(key)
    if kind == "group":
        await one.group_send("first", SECRET)
    elif kind == "mailbox":
        await one.send(channel, SECRET)
    else:
        await one.group_add("room", channel)
    await wire.publish(await wire.last(), key="asgi.channel.second", exchange="")
    await one.send("second", {"type": "last"})
    async with asyncio.timeout(WITHIN):
        assert [await other.receive("second") for _ in range(2)] == [OWN, {"type": "last"}]
    await skips(other)


async def test_moved_from_one_normal_channel_to_another(make_layer: MakeLayer, wire: Wire) -> None:
    one = make_layer(**KEYS)
    await one.send("second", OWN)
    await one.send("first", SECRET)
    frame = (await wire.channel.basic_get("asgi.channel.first", no_ack=True)).body
    assert frame
    await wire.publish(frame, key="asgi.channel.second", exchange="")
    await one.send("second", {"type": "last"})
    async with asyncio.timeout(WITHIN):
        assert [await one.receive("second") for _ in range(2)] == [OWN, {"type": "last"}]
    await skips(one)


async def test_moved_to_another_group_or_process(make_layer: MakeLayer, wire: Wire) -> None:
    one, other = make_layer(**KEYS), make_layer(**KEYS)
    first, second = await other.new_channel(), await other.new_channel()
    await other.group_add("first", first)
    await other.group_add("second", second)
    await wire.listen("first")
    await one.group_send("first", OWN)
    async with asyncio.timeout(WITHIN):
        assert await other.receive(first) == OWN
    await wire.publish(await wire.last(), key="second")
    await skips(other, 1)
    await wire.publish(await wire.last(), key=key_of(other))
    await skips(other, 2)
    # What one wrote does not come back to it.
    await one.group_add("first", await one.new_channel())
    await wire.publish(await wire.last(), key="first")
    await skips(one, 1)
    async with asyncio.timeout(WITHIN):
        assert await other.receive(first) == OWN  # it was repeated to where it is for, before it expired


async def test_what_is_for_one_process_does_not_go_to_another(make_layer: MakeLayer, wire: Wire) -> None:
    one, other, third = (make_layer(**KEYS) for _ in range(3))
    channel = await other.new_channel()
    await third.new_channel()
    await wire.listen(key_of(other))
    await one.send(channel, SECRET)
    await wire.publish(await wire.last(), key=key_of(third))
    await skips(third)


async def test_a_normal_channel_gets_the_messages_of_its_groups(make_layer: MakeLayer, wire: Wire) -> None:
    """Which are for the group, and come to its queue by the group's key."""
    one = make_layer(**KEYS)
    await one.group_add("first", "jobs")
    await one.group_send("first", OWN)
    async with asyncio.timeout(WITHIN):
        assert await one.receive("jobs") == OWN
    assert one.stats().skipped_frames_total == 0
