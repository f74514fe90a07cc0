"""The connection is cut, hangs, or is closed by an administrator; what was accepted meanwhile comes afterwards."""

import asyncio
import contextlib
from functools import partial
from typing import Any

import pytest

from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.proxy import Proxy
from channels_trunk.transports.rabbitmq.channel import Channel
from tests.integration.rabbitmq.conftest import (
    HELLO,
    MakeLayer,
    ProxyFactory,
    is_away,
    is_ok,
    through,
    unreached,
    works,
)
from tests.plugins.impatience import impatient
from tests.plugins.servers import RabbitServer


async def test_what_was_accepted_while_the_connection_was_cut_is_delivered(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(), make_layer(host=through(gate, url))
    channel = await there.new_channel()
    await there.group_add("group", channel)
    gate.refuse()
    gate.cut()
    await is_away(there)
    for number in range(50):
        await here.send(channel, {"type": "direct", "number": number})
        await here.group_send("group", {"type": "group", "number": number})
    gate.resume()
    async with asyncio.timeout(60):
        received = [await there.receive(channel) for _ in range(100)]
    assert [message["number"] for message in received if message["type"] == "direct"] == list(range(50))
    assert [message["number"] for message in received if message["type"] == "group"] == list(range(50))
    await eventually(lambda: there.stats().reconnects_total == 1)
    assert there.stats().gaps_total == 0
    await works(here, there)


async def test_a_send_waits_while_reconnects_are_refused(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(host=through(gate, url), send_timeout=60), make_layer()
    channel = await there.new_channel()
    await here.send(channel, HELLO)
    gate.refuse()
    gate.cut()
    await is_away(here)  # what is under way when the connection is cut is told at once
    sending = [asyncio.ensure_future(here.send(name, {"type": "late"})) for name in (channel, "jobs")]
    sending.append(asyncio.ensure_future(here.group_add("group", "jobs")))
    refused = set[str]()

    def was_refused_again() -> bool:
        refused.add(here.health().detail)
        return len(refused) > 2 or any(task.done() for task in sending)

    with contextlib.suppress(TimeoutError):  # the detail may stay the same
        await eventually(was_refused_again, within=3)
    assert not any(task.done() for task in sending)
    gate.resume()
    await asyncio.wait_for(asyncio.gather(*sending), 60)
    assert [await asyncio.wait_for(there.receive(channel), 60) for _ in range(2)] == [HELLO, {"type": "late"}]
    assert await asyncio.wait_for(there.receive("jobs"), 60) == {"type": "late"}


@pytest.mark.parametrize("reaches", [False, True], ids=["not sent", "sent"])
async def test_a_group_that_is_joined_again_is_heard_though_its_leave_was_cut_off(
    make_layer: MakeLayer,
    proxy: ProxyFactory,
    broker: RabbitServer,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    reaches: bool,
) -> None:
    """The connection is cut while the groups without members are unbound."""
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(host=through(gate, url)), make_layer()
    channel = await here.new_channel()
    await here.group_add("group", channel)
    await here.group_discard("group", channel)
    cuts: list[Any] = []
    unbind_all = Channel.unbind_all

    def cut_off(self: Channel, *arguments: Any) -> "asyncio.Future[Any]":
        if cuts:
            return unbind_all(self, *arguments)
        cuts.append(None if not reaches else unbind_all(self, *arguments))
        gate.cut()
        return unbind_all(self, *arguments) if not reaches else cuts[0]

    monkeypatch.setattr(Channel, "unbind_all", cut_off)
    here._hub.on_io(here._hub.sweep)
    await eventually(lambda: bool(cuts))
    await here.group_add("group", channel)
    await there.group_send("group", HELLO)
    async with asyncio.timeout(60):
        assert await here.receive(channel) == HELLO


async def test_a_broker_that_is_silent_is_noticed_by_heartbeats(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(), make_layer(host=through(gate, url, "heartbeat=1&connection_timeout=1"))
    channel = await there.new_channel()
    gate.hang()
    await is_away(there)
    assert "no word from the broker" in there.health().detail or "no answer within 1 s" in there.health().detail
    await here.send(channel, HELLO)
    gate.cut()
    gate.resume()
    async with asyncio.timeout(60):
        assert await there.receive(channel) == HELLO
    assert there.stats().gaps_total == 0
    await works(here, there)


async def test_messages_that_come_again_after_a_cut_are_delivered_once(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(capacity=100_000), make_layer(host=through(gate, url), capacity=100_000)
    channel = await there.new_channel()
    for number in range(600):
        await here.send(channel, {"type": "one", "number": number})
        if number % 100 == 50:
            gate.cut()
    async with asyncio.timeout(60):
        received = [await there.receive(channel) for _ in range(600)]
    assert [message["number"] for message in received] == list(range(600))
    await here.send(channel, {"type": "last"})
    assert await there.receive(channel) == {"type": "last"}


async def test_an_administrator_closes_all_connections(make_layer: MakeLayer, broker: RabbitServer) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    await here.send(channel, HELLO)
    waiting = asyncio.ensure_future(there.receive("jobs"))
    await in_thread(broker.close_all_connections)
    await eventually(lambda: there.stats().reconnects_total and here.stats().reconnects_total, within=20)
    await is_ok(here, there)
    assert await there.receive(channel) == HELLO
    await here.send("jobs", HELLO)
    async with asyncio.timeout(60):
        assert await waiting == HELLO
    assert there.stats().gaps_total == 0
    await works(here, there)


async def test_senders_wait_for_the_broker_and_then_are_told(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    gate = proxy(broker.host, broker.port)
    here = make_layer(host=through(gate, url))
    await here.send("jobs", HELLO)
    gate.refuse()
    gate.cut()
    await is_away(here)
    with impatient(here, 1.0):
        await unreached(here, r"send_timeout=1 s: RabbitMQ at 127\.0\.0\.1:\d+, vhost 'v\w+': ")
    gate.resume()
    await is_ok(here)
    await here.send("jobs", HELLO)


async def test_joins_under_way_when_the_connection_is_cut_hold_all_the_same(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(), make_layer(host=through(gate, url), send_timeout=20)
    channel = await there.new_channel()
    await there.group_add("group", channel)
    gate.hang()
    joining = [asyncio.create_task(there.group_add(f"group.{number}", channel)) for number in range(20)]
    await asyncio.sleep(0)
    gate.cut()
    gate.resume()
    async with asyncio.timeout(60):
        await asyncio.gather(*joining)
    for number in range(20):
        await here.group_send(f"group.{number}", {"type": "to", "number": number})
        assert (await there.receive(channel))["number"] == number
    await works(here, there)


async def test_joins_and_leaves_while_connections_are_cut_and_groups_swept(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(), make_layer(host=through(gate, url), send_timeout=20)
    channel = await there.new_channel()
    hub = there._hub
    for number in range(300):
        group = f"group.{number % 7}"
        await there.group_add(group, channel)
        hub.on_io(hub.sweep)
        if number % 50 == 25:
            gate.cut()
        await here.group_send(group, {"type": "to", "number": number})
        async with asyncio.timeout(60):
            assert (await there.receive(channel))["number"] == number
        await there.group_discard(group, channel)
    assert there.stats().gaps_total == 0


async def test_another_broker_of_the_list_is_taken(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    first, second = proxy(broker.host, broker.port), proxy(broker.host, broker.port)
    here = make_layer(host=[through(first, url), through(second, url)])
    there = make_layer()
    await works(here, there)
    for gate, other in ((first, second), (second, first)):
        gate.refuse()
        gate.cut()
        other.resume()
        await eventually(partial(connects, other), within=20)
        await works(here, there)


def connects(gate: Proxy) -> bool:
    return gate.connections() == 1
