"""Rules about cancellation and churn: what is cancelled loses nothing, its own nor a neighbour's."""

import asyncio
import time

from channels_trunk.testing.commands import END
from channels_trunk.testing.conformance.checks import (
    assert_clean,
    assert_complete,
    assert_nothing_waits,
    with_stragglers,
)
from channels_trunk.testing.conformance.rules import rule
from channels_trunk.testing.layer import Message
from channels_trunk.testing.rig import Rig

PLENTY = 100_000
STORM = 2000
CHURNED = 1500
NEIGHBOURS = 10


class CancellationRules:
    """Cancelled calls."""

    @rule("cancellation_safe", within=60)
    async def test_cancel_storm_on_one_channel(self, rig: Rig) -> None:
        """2,000 messages, receives cancelled at random: none lost, none twice, in order."""
        here = rig.here(capacity=PLENTY)
        count = rig.scaled(STORM)
        channel = await here.new_channel()
        received, _ = await asyncio.gather(
            here.storm(channel, count=count, seed=rig.seed), here.flood(channel, count=count, sender="here")
        )
        assert_clean(received, sent={"here": count})
        await assert_nothing_waits(here, channel)

    @rule("cancellation_safe", within=60)
    async def test_cancel_storm_of_several_tasks(self, rig: Rig) -> None:
        """The same with four tasks that receive on one channel, all cancelled at random: each message once."""
        here = rig.here(capacity=PLENTY)
        count = rig.scaled(STORM)
        channel = await here.new_channel()
        storms = asyncio.gather(*(here.storm_of_work(channel, seed=f"{rig.seed}/{i}") for i in range(4)))
        await here.flood(channel, count=count, sender="here")
        for _ in range(4):
            await here.send(channel, END)
        assert_complete([message for got in await storms for message in got], sent={"here": count})
        await assert_nothing_waits(here, channel)

    @rule("cancellation_safe", peers=True, within=60)
    async def test_cancel_storm_on_several_channels(self, rig: Rig) -> None:
        """The same with eight channels of one node, whose messages come from elsewhere."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        count = rig.scaled(STORM) // 8
        channels = [await here.new_channel() for _ in range(8)]
        floods = [there.start("flood", channel, count=count, sender="there") for channel in channels]
        storms = [here.storm(channel, count=count, seed=f"{rig.seed}/{channel[-3:]}") for channel in channels]
        for received in await asyncio.gather(*storms):
            assert_clean(received, sent={"there": count})
        await asyncio.gather(*floods)
        for channel in channels:
            await assert_nothing_waits(here, channel, sender=there)

    @rule("cancellation_safe", "normal_channels", peers=True, within=60)
    async def test_cancel_storm_on_a_normal_channel(self, rig: Rig) -> None:
        """Four readers of one normal channel in two nodes, all cancelled at random: each message once."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        count = rig.scaled(STORM) // 4
        channel = rig.name("jobs")
        storms = [here.storm_of_work(channel, seed=f"{rig.seed}/{i}") for i in range(2)]
        storms += [there.call("storm_of_work", channel, seed=f"{rig.seed}/{i}", patience=40) for i in range(2, 4)]
        working = asyncio.gather(*storms)
        await there.call("flood", channel, count=count, sender="there")
        for _ in storms:
            await there.send(channel, END)
        assert_complete(await with_stragglers(await working, here, channel, count=count), sent={"there": count})
        await assert_nothing_waits(here, channel)

    @rule("cancellation_safe", "groups", peers=True, within=60)
    async def test_storm_beside_a_steady_neighbour(self, rig: Rig) -> None:
        """A neighbour that only receives gets all of a group's messages while others are cancelled all the time."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        count = rig.scaled(500)
        group = rig.name("group")
        steady, *stormy = await here.join(group, count=5)
        storms = [here.storm(channel, count=count, seed=f"{rig.seed}/{i}") for i, channel in enumerate(stormy)]
        flood = there.call("flood_group", group, count=count, sender="there", pace=10)
        got, *others, _ = await asyncio.gather(here.collect(steady, count=count), *storms, flood)
        for received in (got, *others):
            assert_clean(received, sent={"there": count})

    @rule("cancellation_safe")
    async def test_cancelled_in_the_turn_of_delivery(self, rig: Rig) -> None:
        """A receive() that is cancelled after the message came, before it ran, leaves it to the next one."""
        here = rig.here()
        for channel in await rig.each_kind(here):
            for number in range(50):
                task = asyncio.ensure_future(here.layer.receive(channel))
                await asyncio.sleep(0)
                await here.send(channel, {"type": "one", "number": number})
                for _ in range(number % 3):
                    await asyncio.sleep(0)
                task.cancel()
                (outcome,) = await asyncio.gather(task, return_exceptions=True)
                if isinstance(outcome, asyncio.CancelledError):
                    outcome = await here.receive(channel)
                assert outcome == {"type": "one", "number": number}
            await assert_nothing_waits(here, channel)

    @rule("cancellation_safe", peers=True)
    async def test_cancelled_waiter_hands_its_signal_on(self, rig: Rig) -> None:
        """Of two that wait on a channel, the second gets the message if the first is cancelled as it comes."""
        here, there = rig.here(), await rig.peer()
        for channel in await rig.each_kind(here):
            for sender in (here, there):
                first = asyncio.ensure_future(here.layer.receive(channel))
                await asyncio.sleep(0)
                second = asyncio.ensure_future(here.layer.receive(channel))
                await asyncio.sleep(0)
                await sender.send(channel, {"type": "one"})
                first.cancel()
                await asyncio.wait([first])
                if first.cancelled():
                    assert await asyncio.wait_for(second, rig.seconds(10)) == {"type": "one"}
                else:
                    assert first.result() == {"type": "one"}
                    second.cancel()
                    await asyncio.wait([second])
                await assert_nothing_waits(here, channel, sender=sender)

    @rule("cancellation_safe")
    async def test_timeouts_lose_nothing(self, rig: Rig) -> None:
        """wait_for() and timeout() around receive() are cancellations too."""
        here = rig.here(capacity=PLENTY)
        count = rig.scaled(300)
        channel = await here.new_channel()
        flood = asyncio.ensure_future(here.flood(channel, count=count, sender="here"))
        received: list[Message] = []
        deadline = time.monotonic() + rig.seconds(20)
        while len(received) < count and time.monotonic() < deadline:
            try:
                async with asyncio.timeout(rig.random.random() * 0.002):
                    received.append(await here.layer.receive(channel))
            except TimeoutError:
                # An empty channel must not keep the sender from running.
                await asyncio.sleep(0)
        await flood
        assert_clean(received, sent={"here": count})

    @rule("cancellation_safe", "groups", peers=True)
    async def test_cancelled_senders_do_no_harm(self, rig: Rig) -> None:
        """Calls of every kind are cancelled at random; what was sent before and after them arrives, in order."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        group = rig.name("group")
        theirs, mine = await there.new_channel(), await here.new_channel()
        for number in range(100):
            calls = [
                here.send(mine, {"type": "maybe"}),
                here.group_send(group, {"type": "maybe"}),
                here.group_add(group, mine),
                here.group_discard(group, mine),
            ]
            tasks = [asyncio.ensure_future(call) for call in calls]
            for _ in range(rig.random.randrange(3)):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await here.flood(theirs, count=1, sender="here", start=number)
        assert_clean(await there.collect(theirs, count=100), sent={"here": 100})
        (fresh,) = await here.join(group)
        await there.group_send(group, {"type": "after"})
        assert await here.receive(fresh) == {"type": "after"}


class ChurnRules:
    """Neighbours that come and go."""

    @rule("groups", "cancellation_safe", peers=True, within=90)
    async def test_neighbours_joining_and_leaving(self, rig: Rig) -> None:
        """1,500 group_sends with ten neighbours that join and leave: none lost to a stable member."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        count = rig.scaled(CHURNED)
        group = rig.name("group")
        (stable,) = await here.join(group)
        churns = [
            asyncio.ensure_future(here.churn(group, neighbours=NEIGHBOURS, seed=rig.seed)),
            there.start("churn", group, neighbours=NEIGHBOURS, seed=rig.seed),
        ]
        try:
            received, _ = await asyncio.gather(
                here.collect(stable, count=count, within=40),
                there.call("flood_group", group, count=count, sender="there", patience=60),
            )
        finally:
            ended = [churn for churn in churns if churn.done()]
            for churn in churns:
                churn.cancel()
            await asyncio.gather(*churns, return_exceptions=True)
        assert not ended, f"a neighbour failed: {ended}"
        assert_clean(received, sent={"there": count})
        await assert_nothing_waits(here, stable, sender=there)
