"""An operator deletes what the layer has made, or options change while it is there."""

import asyncio
import logging
from functools import partial

import aiormq
import pytest
from channels.exceptions import ChannelFull

from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.transports.rabbitmq.errors import AmqpError
from channels_trunk.transports.rabbitmq.ledger import Ledger
from channels_trunk.transports.rabbitmq.link import Link
from channels_trunk.transports.rabbitmq.members import Members
from channels_trunk.transports.rabbitmq.place import Place
from channels_trunk.transports.rabbitmq.workers import Workers
from tests.integration.claimed_ahead import held, take, work_until_ahead
from tests.integration.rabbitmq.conftest import (
    HELLO,
    MakeLayer,
    ProxyFactory,
    is_away,
    is_ok,
    nothing_goes_back,
    through,
    works,
)
from tests.plugins.servers import RabbitServer

JOBS = 100


def listed(broker: RabbitServer, url: str, what: str, *columns: str) -> list[list[str]]:
    """What the broker has in this vhost."""
    text = broker.ctl(f"list_{what}", "--vhost", url.rpartition("/")[2], "--no-table-headers", *columns)
    return [line.split("\t") for line in text.splitlines() if line]


async def test_a_deleted_node_queue_is_a_gap(make_layer: MakeLayer, broker: RabbitServer, url: str) -> None:
    here, there = make_layer(), make_layer(gap_event="gap.said")
    channel = await there.new_channel()
    await there.group_add("group", channel)
    node = there.stats().node
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).queue_delete(f"asgi.node.{node}.1")
    async with asyncio.timeout(60):
        assert await there.receive(channel) == {"type": "gap.said"}
    await is_ok(there)
    await here.group_send("group", HELLO)
    assert await there.receive(channel) == HELLO
    await works(here, there)
    names = [row[0] for row in await in_thread(lambda: listed(broker, url, "queues", "name"))]
    assert f"asgi.node.{node}.2" in names


async def test_a_gap_is_said_though_the_process_is_cut_off_again_before_it_takes_part(
    make_layer: MakeLayer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its new queue has the mark by then, which says that nothing was lost."""
    layer = make_layer(gap_event="gap.said")
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    restore, attempts = Members.restore, []

    async def cut_off_at_first(members: Members, link: Link, workers: Workers, ledger: Ledger) -> None:
        attempts.append(link)
        if len(attempts) == 1:
            link.connection.abort()
            raise AmqpError("the connection was lost")
        await restore(members, link, workers, ledger)

    monkeypatch.setattr(Members, "restore", cut_off_at_first)
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).queue_delete(f"asgi.node.{layer.stats().node}.1")
    await eventually(lambda: attempts)
    await is_ok(layer)
    await layer.send(channel, HELLO)
    assert [await asyncio.wait_for(layer.receive(channel), 60) for _ in range(2)] in (
        [{"type": "gap.said"}, HELLO],
        [HELLO, {"type": "gap.said"}],
    )
    assert layer.stats().gaps_total == 1
    # And it hears what is sent to its groups.
    await layer.group_send("group", HELLO)
    assert await asyncio.wait_for(layer.receive(channel), 60) == HELLO


async def test_a_gap_that_maintenance_finds_is_said_though_it_is_cut_off(
    make_layer: MakeLayer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make_layer(gap_event="gap.said")
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    probe, attempts = Place._probe, []

    async def cut_off_at_first(place: Place, link: Link) -> None:
        attempts.append(link)
        if len(attempts) == 1:
            link.connection.abort()
            raise AmqpError("the connection was lost")
        await probe(place, link)

    monkeypatch.setattr(Place, "_probe", cut_off_at_first)
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).queue_purge(f"asgi.mark.{layer.stats().node}.1")
    layer._hub.context.sink.maintain_soon()
    assert await asyncio.wait_for(layer.receive(channel), 60) == {"type": "gap.said"}
    assert layer.stats().gaps_total == 1


async def test_a_deleted_exchange_is_made_anew(make_layer: MakeLayer, url: str) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    await there.group_add("group", channel)
    await here.group_add("group", "jobs")
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).exchange_delete("asgi.groups")
    # A sender notices at once, as its message has no way; who only listens, at the next maintenance.
    for layer in (here, there):
        layer._hub.context.sink.maintain_soon()
    await eventually(lambda: here.stats().reconnects_total and there.stats().reconnects_total, within=20)
    await is_ok(here, there)
    assert here.stats().gaps_total == there.stats().gaps_total == 1
    await here.group_send("group", {"type": "after"})
    async with asyncio.timeout(60):
        while await there.receive(channel) != {"type": "after"}:
            pass
        while await here.receive("jobs") != {"type": "after"}:
            pass
    await works(here, there)


async def test_an_exchange_that_is_deleted_while_a_process_is_away_is_a_gap(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(host=through(gate, url), gap_event="gap.said"), make_layer()
    channel = await here.new_channel()
    await here.group_add("group", channel)
    gate.refuse()
    gate.cut()
    await is_away(here)
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).exchange_delete("asgi.groups")
    gate.resume()
    assert await asyncio.wait_for(here.receive(channel), 60) == {"type": "gap.said"}
    assert here.stats().gaps_total == 1
    await there.new_channel()
    await there.group_send("group", HELLO)
    assert await asyncio.wait_for(here.receive(channel), 60) == HELLO


async def test_a_membership_outlives_its_maker_and_the_exchange(make_layer: MakeLayer, url: str) -> None:
    gone, here = make_layer(), make_layer()
    await gone.group_add("group", "jobs")
    await gone.close()
    await here.new_channel()
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).exchange_delete("asgi.groups")
    here._hub.context.sink.maintain_soon()
    await eventually(lambda: here.stats().reconnects_total == 1, within=20)
    await is_ok(here)
    waiting = asyncio.ensure_future(here.receive("jobs"))
    async with asyncio.timeout(60):
        while not waiting.done():
            here._hub.context.sink.maintain_soon()
            await here.group_send("group", HELLO)
            await asyncio.wait({waiting}, timeout=0.2)
    assert await waiting == HELLO


async def test_a_sender_is_told_that_the_exchange_was_deleted(make_layer: MakeLayer, url: str) -> None:
    layer = make_layer(gap_event="gap.said")
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).exchange_delete("asgi.groups")
    with pytest.raises(TransportUnavailable, match=r"no exchange 'asgi\.groups'"):
        await layer.group_send("group", HELLO)
    async with asyncio.timeout(60):
        assert [await layer.receive(channel) for _ in range(2)] == [HELLO, {"type": "gap.said"}]
    await layer.group_send("group", HELLO)


async def test_a_deleted_worker_queue_is_made_anew(make_layer: MakeLayer, url: str) -> None:
    here, there = make_layer(), make_layer()
    waiting = asyncio.ensure_future(there.receive("jobs"))
    await here.send("other", HELLO)
    async with await aiormq.connect(url) as connection:
        channel = await connection.channel()
        for name in ("jobs", "other"):
            await channel.queue_delete(f"asgi.channel.{name}")
    await here.send("jobs", HELLO)
    async with asyncio.timeout(60):
        assert await waiting == HELLO
    await here.send("other", {"type": "second"})
    async with asyncio.timeout(60):
        assert await there.receive("other") == {"type": "second"}


async def test_what_was_at_hand_of_a_deleted_worker_queue_is_not_counted_for_ever(
    make_layer: MakeLayer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_goes_back(monkeypatch)  # before the queue is deleted
    source, worker = (make_layer(capacity=JOBS) for _ in range(2))
    for number in range(JOBS):
        await source.send("jobs", {"type": "job", "number": number})
    await work_until_ahead(worker)
    at_hand = worker._hub.transport._workers._consuming  # type: ignore[attr-defined]
    consumer = at_hand._consumers["jobs"]
    await eventually(lambda: consumer.held, within=10)
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).queue_delete("asgi.channel.jobs")
    await eventually(lambda: not consumer.held, within=10)
    await take(worker, held(worker))
    await source.send("jobs", {"type": "job", "number": JOBS})
    assert await take(worker, 1) == [JOBS]
    assert not at_hand._lane._tags._above


async def test_a_queue_with_other_options_is_taken_as_it_is(
    make_layer: MakeLayer, caplog: pytest.LogCaptureFixture
) -> None:
    await make_layer(capacity=2).send("jobs", HELLO)
    later = make_layer(capacity=5)
    with caplog.at_level(logging.WARNING, "channels_trunk"):
        await later.send("jobs", HELLO)
    assert "asgi.channel.jobs was made with other options" in caplog.text
    with pytest.raises(ChannelFull):
        await later.send("jobs", HELLO)


async def test_an_exchange_with_other_options_is_for_a_person_to_mend(make_layer: MakeLayer, url: str) -> None:
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).exchange_declare("asgi.groups", exchange_type="topic")
    layer = make_layer()
    with pytest.raises(TransportError, match=r"made with other options; delete it.*asgi\.groups"):
        await layer.new_channel()
    assert layer.health().state == "failed"


async def test_nothing_is_left_but_what_expires(make_layer: MakeLayer, broker: RabbitServer, url: str) -> None:
    here, there = make_layer(), make_layer()
    await works(here, there)
    await here.close()
    await there.close()

    async def left(what: str, *columns: str) -> list[list[str]]:
        rows: list[list[str]] = await in_thread(lambda: listed(broker, url, what, *columns))
        return sorted(row for row in rows if row[0].startswith("asgi."))

    async def is_left(*names: str, what: str) -> bool:
        return [row[0] for row in await left(what, "name")] == list(names)

    # close() does not wait for long until a broker has done what it is asked for.
    await eventually(partial(is_left, "asgi.channel.jobs", "asgi.ledger", what="queues"))
    await eventually(partial(is_left, what="exchanges"))
    assert all("x-expires" in arguments for _, arguments in await left("queues", "name", "arguments"))


async def test_one_connection_per_process(make_layer: MakeLayer, broker: RabbitServer, url: str) -> None:
    layer = make_layer()
    await layer.new_channel()
    await layer.send("jobs", HELLO)
    assert await layer.receive("jobs") == HELLO
    rows = broker.ctl("list_connections", "--no-table-headers", "vhost").splitlines()
    assert rows.count(url.rpartition("/")[2]) == 1
