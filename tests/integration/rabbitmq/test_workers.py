"""Worker channels: what came for a receiver that had gone, and what is done about it at the broker."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import aiormq
import pytest

from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.transports.base import Claimed
from channels_trunk.transports.rabbitmq.channel import Delivery
from channels_trunk.transports.rabbitmq.errors import AmqpError
from channels_trunk.transports.rabbitmq.lane import Lane
from channels_trunk.transports.rabbitmq.link import Link
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer, ProxyFactory, is_away, is_ok, through
from tests.plugins.servers import RabbitServer

ROUNDS = 25
HELD_SECONDS = 0.02
# More than a connection has AMQP channels for this.
MANY = 260
T = TypeVar("T")


async def test_what_came_for_nobody_is_not_overtaken(make_layer: MakeLayer) -> None:
    """The consumer has it, nobody takes it, and it goes back: a receiver that comes at that moment finds it first."""
    here, there = make_layer(), make_layer()
    for number in range(ROUNDS):
        waiting = asyncio.ensure_future(here.receive("jobs"))
        await asyncio.sleep(HELD_SECONDS)  # until the broker has a consumer for it
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for part in range(3):
            await there.send("jobs", {**HELLO, "number": number, "part": part})
        await asyncio.sleep(HELD_SECONDS * (0.6 + 0.4 * number / ROUNDS))
        got = [await asyncio.wait_for(here.receive("jobs"), 60) for _ in range(3)]
        assert [message["part"] for message in got] == [0, 1, 2], f"round {number}"


@pytest.mark.parametrize("was_heard", [False, True])
async def test_what_is_being_acknowledged_when_the_connection_ends_is_lost_or_comes_again_but_is_not_handed_over(
    make_layer: MakeLayer,
    proxy: ProxyFactory,
    broker: RabbitServer,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    was_heard: bool,
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(host=through(gate, url)), make_layer()
    await there.send("jobs", {"type": "first"})
    await here.send("other", HELLO)
    acknowledge = Lane.acknowledge

    def cut_off(lane: Lane, deliveries: Sequence[Delivery]) -> "asyncio.Future[Any]":
        async def never_answered() -> None:
            if was_heard:
                await acknowledge(lane, deliveries)
            gate.refuse()
            gate.cut()
            raise AmqpError("the connection was cut")

        return asyncio.ensure_future(never_answered())

    with monkeypatch.context() as patch:
        patch.setattr(Lane, "acknowledge", cut_off)
        receiving = asyncio.ensure_future(here.receive("jobs"))
        await is_away(here)
    gate.resume()
    await eventually(lambda: here.stats().gaps_total == 1, within=20)
    await is_ok(here)
    await there.send("jobs", {"type": "second"})
    got = [await asyncio.wait_for(receiving, 60)]
    if not was_heard:
        got.append(await asyncio.wait_for(here.receive("jobs"), 60))
    assert got == ([{"type": "second"}] if was_heard else [{"type": "first"}, {"type": "second"}])
    assert here.stats().gaps_total == 1


async def in_its_loop(layer: RabbitMQChannelLayer, ask: Callable[[Link], Coroutine[Any, Any, T]]) -> T:
    """What is asked of the connection of a layer, in the loop of that."""
    link: Link = layer._hub.transport._link  # type: ignore[attr-defined]
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(link), link.connection.loop))


def jobs(link: Link) -> str:
    return link.settings.topology.channel_queue_name("jobs")


async def test_more_may_be_asked_at_once_than_a_connection_has_channels_for(make_layer: MakeLayer) -> None:
    async def ask(link: Link) -> list[bool]:
        return await asyncio.gather(*(link.has_queue(jobs(link)) for _ in range(MANY)))

    layer = make_layer()
    await layer.send("jobs", HELLO)
    assert await in_its_loop(layer, ask) == [True] * MANY


async def test_who_gives_up_asking_does_not_end_the_connection(make_layer: MakeLayer) -> None:
    async def ask(link: Link) -> bool:
        for _ in range(ROUNDS):
            asking = asyncio.ensure_future(link.has_queue(jobs(link)))
            await asyncio.sleep(0)  # the broker has not answered anything
            asking.cancel()
            await asyncio.wait({asking})
        return await link.has_queue(jobs(link))

    layer = make_layer()
    await layer.send("jobs", HELLO)
    assert await in_its_loop(layer, ask)
    assert layer.stats().reconnects_total == 0


async def test_a_member_may_come_while_the_others_are_looked_after(make_layer: MakeLayer) -> None:
    layer = make_layer()
    for number in range(3):
        await layer.group_add("workers", f"worker-{number}")

    async def ask(_link: Link) -> None:
        transport = layer._hub.transport
        others = (transport.bind("workers", f"another-{number}", float("inf")) for number in range(10))
        await asyncio.gather(transport.maintain(), *others)

    await in_its_loop(layer, ask)


async def test_a_queue_that_cannot_be_reached_does_not_keep_the_process_from_its_broker(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    """As that of a normal channel whose node of a cluster is down."""
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(host=through(gate, url)), make_layer()
    for channel in ("locked", "jobs"):
        await here.group_add("workers", channel)
    gate.refuse()
    gate.cut()
    await is_away(here)
    async with await aiormq.connect(url) as connection:
        holder = await connection.channel()
        await holder.queue_delete("asgi.channel.locked")
        await holder.queue_declare("asgi.channel.locked", exclusive=True)
        gate.resume()
        await is_ok(here)
        await in_its_loop(here, lambda _link: here._hub.transport.maintain())
        await there.group_send("workers", HELLO)
        assert await asyncio.wait_for(here.receive("jobs"), 60) == HELLO
        assert here.stats().reconnects_total == 1
        # aiormq does not wait for the broker when it closes, and the queue goes with the connection.
        await holder.queue_delete("asgi.channel.locked")
    await in_its_loop(here, lambda _link: here._hub.transport.maintain())
    await there.group_send("workers", HELLO)
    assert await asyncio.wait_for(here.receive("locked"), 60) == HELLO


async def test_what_goes_back_to_a_queue_that_cannot_be_reached_holds_up_no_other(
    make_layer: MakeLayer, url: str
) -> None:
    here, there = make_layer(), make_layer()
    await there.send("other", HELLO)
    assert await here.receive("other") == HELLO
    transport, context = here._hub.transport, here._hub.context
    claimed = [Claimed(channel, context.clock.wall() + 60, context.codec.pack(HELLO)) for channel in ("locked", "jobs")]
    async with await aiormq.connect(url) as connection:
        holder = await connection.channel()
        await holder.queue_declare("asgi.channel.locked", exclusive=True)
        await in_its_loop(here, lambda _link: transport.restore(claimed))
        assert await asyncio.wait_for(there.receive("jobs"), 60) == HELLO
        await holder.queue_delete("asgi.channel.locked")
    await in_its_loop(here, lambda _link: transport.maintain())
    assert await asyncio.wait_for(there.receive("locked"), 60) == HELLO
