"""Rules about delivery: once, in order, to one reader."""

import asyncio

from channels_trunk.testing.conformance.checks import assert_clean, assert_complete, assert_nothing_waits
from channels_trunk.testing.conformance.rules import rule
from channels_trunk.testing.ledger import numbered
from channels_trunk.testing.rig import Rig

PLENTY = 100_000


class DeliveryRules:
    """Sending and receiving."""

    @rule(peers=True)
    async def test_specific_channel_between_nodes(self, rig: Rig) -> None:
        """What is sent to a node's channel arrives there, and the answer here."""
        here, there = rig.here(), await rig.peer()
        mine, theirs = await here.new_channel(), await there.new_channel()
        for number in range(20):
            await here.send(theirs, {"type": "ping", "number": number})
            assert await there.receive(theirs) == {"type": "ping", "number": number}
            await there.send(mine, {"type": "pong", "number": number})
            assert await here.receive(mine) == {"type": "pong", "number": number}

    @rule("normal_channels", peers=True)
    async def test_normal_channel_between_nodes(self, rig: Rig) -> None:
        """A normal channel may be read by another node, in the order in which it was written."""
        here, there = rig.here(), await rig.peer()
        channel = rig.name("normal")
        await here.flood(channel, count=50, sender="here")
        assert_clean(await there.collect(channel, count=50), sent={"here": 50})
        await assert_nothing_waits(here, channel)

    @rule(peers=True)
    async def test_waiting_receiver_is_woken(self, rig: Rig) -> None:
        """A receive() that waits already gets what comes, from here and from elsewhere."""
        here, there = rig.here(), await rig.peer()
        for sender in (here, there):
            for channel in await rig.each_kind(here):
                waiting = asyncio.ensure_future(here.receive(channel))
                await asyncio.sleep(0)
                await sender.send(channel, {"type": "wake"})
                assert await waiting == {"type": "wake"}

    @rule()
    async def test_order_within_one_node(self, rig: Rig) -> None:
        """One sender, one channel: in order, whether the channel is specific or normal."""
        here = rig.here(capacity=PLENTY)
        count = rig.scaled(2000)
        for channel in await rig.each_kind(here):
            await here.flood(channel, count=count, sender="here")
            assert_clean(await here.collect(channel, count=count), sent={"here": count})

    @rule(peers=True)
    async def test_order_of_several_senders(self, rig: Rig) -> None:
        """Several nodes send to one channel while it is read: each one's messages come once and in order."""
        here = rig.here(capacity=PLENTY)
        senders = await rig.peers(2, capacity=PLENTY)
        count = rig.scaled(1000)
        channel = await here.new_channel()
        floods = [
            peer.start("flood", channel, count=count, sender=name)
            for peer, name in zip(senders, ("one", "two"), strict=True)
        ]
        received = await here.collect(channel, count=2 * count)
        await asyncio.gather(*floods)
        assert_clean(received, sent={"one": count, "two": count})
        await assert_nothing_waits(here, channel)

    @rule(peers=True)
    async def test_order_of_concurrent_tasks(self, rig: Rig) -> None:
        """32 tasks of one node send at once: each one's messages come once and in order."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        count = rig.scaled(50)
        channel = await here.new_channel()
        names = [f"task-{i}" for i in range(32)]
        floods = [there.start("flood", channel, count=count, sender=name) for name in names]
        received = await here.collect(channel, count=32 * count)
        await asyncio.gather(*floods)
        assert_clean(received, sent=dict.fromkeys(names, count))

    @rule("groups", peers=True)
    async def test_order_of_send_and_group_send(self, rig: Rig) -> None:
        """What one sender sends to a channel and to its group in turn comes in that order."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        group = rig.name("group")
        for sender in (here, there):
            (channel,) = await here.join(group)
            for number in range(0, 100, 2):
                await sender.send(channel, numbered("mixed", number))
                await sender.group_send(group, numbered("mixed", number + 1))
            assert_clean(await here.collect(channel, count=100), sent={"mixed": 100})
            await here.group_discard(group, channel)

    @rule("groups", "normal_channels", peers=True)
    async def test_order_of_sends_in_one_turn(self, rig: Rig) -> None:
        """What is sent to a channel and to its group in one turn of the loop comes in that order, be it one batch."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        group, normal, alone = rig.name("group"), rig.name("worker"), rig.name("alone")
        (theirs,) = await there.join(group)
        await here.group_add(group, normal)
        for turn in range(5):
            sends = []
            for number in range(0, 20, 2):
                message = numbered(f"turn-{turn}", number)
                sends += [here.send(channel, message) for channel in (theirs, normal, alone)]
                sends.append(here.group_send(group, numbered(f"turn-{turn}", number + 1)))
            await asyncio.gather(*sends)
            for reader, channel in ((there, theirs), (here, normal)):
                assert_clean(await reader.collect(channel, count=20), sent={f"turn-{turn}": 20})
            assert len(await here.collect(alone, count=10)) == 10

    @rule()
    async def test_one_message_goes_to_one_of_several_waiting(self, rig: Rig) -> None:
        """Several tasks receive on one channel: each message goes to one of them, and none is left waiting."""
        here = rig.here(capacity=PLENTY)
        for channel in await rig.each_kind(here):
            readers = [asyncio.ensure_future(here.collect(channel, count=10)) for _ in range(8)]
            await asyncio.sleep(0)
            await here.flood(channel, count=80, sender="here")
            received = [message for got in await asyncio.gather(*readers) for message in got]
            assert_complete(received, sent={"here": 80})
            await assert_nothing_waits(here, channel)

    @rule(peers=True)
    async def test_channels_of_one_node_are_kept_apart(self, rig: Rig) -> None:
        """Messages for many channels of a node arrive each in its own, even if only some are read."""
        here, there = rig.here(), await rig.peer()
        channels = [await there.new_channel() for _ in range(50)]
        for channel in channels:
            await here.send(channel, {"type": "for", "channel": channel})
        for channel in reversed(channels):
            assert await there.receive(channel) == {"type": "for", "channel": channel}

    @rule(peers=True)
    async def test_quiet_channel_beside_a_busy_one(self, rig: Rig) -> None:
        """A flood to one channel of a node, which nobody reads, does not keep a message from its other channel."""
        here, there = rig.here(), await rig.peer()
        busy, quiet = await there.new_channel(), await there.new_channel()
        flood = asyncio.ensure_future(here.flood_for_ever(busy))
        try:
            for number in range(10):
                await here.send(quiet, {"type": "quiet", "number": number})
                assert await there.receive(quiet) == {"type": "quiet", "number": number}
        finally:
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)
