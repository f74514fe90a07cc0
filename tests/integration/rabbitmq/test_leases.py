"""How long the broker keeps the queue of a normal channel: for as long as it is used, and not for ever."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from channels_trunk.layers import RabbitMQChannelLayer, rabbitmq
from channels_trunk.testing import eventually_blocking
from channels_trunk.testing.commands import in_thread
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer
from tests.plugins.servers import RabbitServer, on_every_rabbitmq

pytestmark = on_every_rabbitmq
EXPIRES = 6.0
EXPIRY = 3.0
EVERY = 0.5
# A quorum queue looks every 5 seconds whether it has expired.
WELL_AFTER = 2 * EXPIRES + 6
Make = Callable[[], RabbitMQChannelLayer]


async def what_was_sent_last_is_there_however_long_nobody_reads(make: Make) -> None:
    sender, reader = make(), make()
    loop = asyncio.get_running_loop()
    sent: list[tuple[float, int]] = []
    end = loop.time() + WELL_AFTER
    while loop.time() < end:
        at = loop.time()
        await sender.send("jobs", {"type": "job", "number": len(sent)})
        sent.append((at, len(sent)))
        await asyncio.sleep(EVERY)
    got: list[int] = []
    while not got or got[-1] != sent[-1][1]:
        got.append((await asyncio.wait_for(reader.receive("jobs"), 60))["number"])
    young = {number for at, number in sent if at > loop.time() - EXPIRY}
    assert young <= set(got)
    assert got == sorted(got)
    assert sender.stats().gaps_total == reader.stats().gaps_total == 0


async def a_member_stays_one_though_nobody_reads_and_who_made_it_one_is_gone(make: Make) -> None:
    gone, other, reader = make(), make(), make()
    await other.new_channel()
    await gone.group_add("group", "jobs")
    await gone.close()
    await asyncio.sleep(WELL_AFTER)
    await other.group_send("group", HELLO)
    assert await asyncio.wait_for(reader.receive("jobs"), 60) == HELLO
    # It was never away.
    assert other.stats().gaps_total == reader.stats().gaps_total == 0


async def a_worker_that_waits_stays_a_member(make: Make) -> None:
    worker, sender = make(), make()
    await worker.group_add("group", "jobs")
    waiting = asyncio.ensure_future(worker.receive("jobs"))
    await asyncio.sleep(WELL_AFTER)
    for _ in range(2):
        await sender.group_send("group", HELLO)
    assert await asyncio.wait_for(waiting, 60) == HELLO
    assert await asyncio.wait_for(worker.receive("jobs"), 60) == HELLO
    assert worker.stats().gaps_total == 0


async def test_the_queue_of_a_normal_channel_is_there_for_as_long_as_it_is_used(
    make_layer: MakeLayer, broker: RabbitServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once, as each takes its time, and for queues of both types."""
    monkeypatch.setattr(rabbitmq, "QUEUE_EXPIRES", EXPIRES)
    makes = [partial(make_layer, prefix=kind, expiry=EXPIRY, queue_type=kind) for kind in ("classic", "quorum")]
    once = [make() for make in makes]
    for layer in once:
        await layer.send("once", HELLO)
    scenarios = (
        what_was_sent_last_is_there_however_long_nobody_reads,
        a_member_stays_one_though_nobody_reads_and_who_made_it_one_is_gone,
        a_worker_that_waits_stays_a_member,
    )
    await asyncio.gather(
        *(
            scenario(partial(make, prefix=f"{make.keywords['prefix']}-{number}"))
            for make in makes
            for number, scenario in enumerate(scenarios)
        )
    )

    def are_gone() -> bool:
        # Not by list_queues, which asks each queue, and may wait for one that has just gone.
        vhost = url.rpartition("/")[2]
        return ".channel.once" not in broker.ctl("eval", f'rabbit_amqqueue:list_names(<<"{vhost}">>).')

    await in_thread(lambda: eventually_blocking(are_gone, within=200))
    # And they are there again for who uses them again.
    for layer in once:
        await layer.send("once", HELLO)
        assert await asyncio.wait_for(layer.receive("once"), 60) == HELLO
