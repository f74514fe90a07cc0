"""Rules about capacity: who is told that a channel is full, and who is not hindered by it."""

import asyncio
import re
from functools import partial

import pytest
from channels.exceptions import ChannelFull

from channels_trunk.testing.commands import Commands
from channels_trunk.testing.conformance.checks import assert_clean, assert_nothing_waits
from channels_trunk.testing.conformance.rules import rule
from channels_trunk.testing.peers import Peer
from channels_trunk.testing.rig import Rig

SMALL = 5


class CapacityRules:
    """`capacity` and `channel_capacity`."""

    @rule("capacity")
    async def test_full_channel_raises_channel_full(self, rig: Rig) -> None:
        """Exactly `capacity` messages fit, into a specific and into a normal channel; those stay and come in order."""
        here = rig.here(capacity=SMALL)
        for channel in await rig.each_kind(here):
            assert await here.fill(channel, limit=SMALL + 1) == SMALL
            with pytest.raises(ChannelFull):
                await here.send(channel, {"type": "too much"})
            assert_clean(await here.collect(channel, count=SMALL), sent={"fill": SMALL})

    @rule("capacity")
    async def test_drained_channel_takes_messages_again(self, rig: Rig) -> None:
        """Each message that is taken makes room for one."""
        here = rig.here(capacity=SMALL)
        for channel in await rig.each_kind(here):
            await here.fill(channel, limit=SMALL + 1)
            for _ in range(3):
                await here.receive(channel)
                await rig.eventually(partial(here.has_room, channel, {"type": "again"}))
                with pytest.raises(ChannelFull):
                    await here.send(channel, {"type": "too much"})

    @rule("capacity", peers=True)
    async def test_full_channel_of_another_node_raises_channel_full(self, rig: Rig) -> None:
        """A node that goes on sending to a full channel of another is told; so is a third node."""
        here = rig.here(capacity=SMALL)
        peers = await rig.peers(2, capacity=SMALL)
        channel = await here.new_channel()
        for peer in peers:
            await rig.eventually(partial(self._full, peer, channel))
        assert len(await here.collect(channel, count=SMALL)) == SMALL

    @rule("capacity", peers=True)
    async def test_drained_channel_of_another_node_takes_messages_again(self, rig: Rig) -> None:
        """When the owner has taken its messages, the other node may send again, and what it sends arrives."""
        here, there = rig.here(capacity=SMALL), await rig.peer(capacity=SMALL)
        channel = await here.new_channel()
        for turn in range(3):
            await rig.eventually(lambda: self._full(there, channel))
            await here.collect(channel, count=SMALL)
            again = {"type": "again", "turn": turn}
            await rig.eventually(partial(there.has_room, channel, again))
            # What was under way when the owner said that it was full may come before it.
            while await here.receive(channel) != again:
                pass

    @rule("capacity", "normal_channels", peers=True)
    async def test_normal_channel_is_full_for_every_node(self, rig: Rig) -> None:
        """The capacity of a normal channel holds for all nodes together."""
        here, there = rig.here(capacity=SMALL), await rig.peer(capacity=SMALL)
        channel = rig.name("normal")
        assert await here.fill(channel, limit=SMALL + 1) == SMALL
        assert await there.call("fill", channel, limit=50) == 0
        assert_clean(await there.collect(channel, count=SMALL), sent={"fill": SMALL})
        await rig.eventually(lambda: here.has_room(channel, {"type": "again"}))
        assert await there.receive(channel) == {"type": "again"}

    @rule("capacity", "normal_channels", peers=True)
    async def test_accepted_messages_of_rivals_are_delivered(self, rig: Rig) -> None:
        """Three nodes fill one normal channel at once: what was accepted, and no more, is received."""
        here, peers = rig.here(capacity=50), await rig.peers(2, capacity=50)
        channel = rig.name("normal")
        accepted = await asyncio.gather(
            here.fill(channel, limit=100), *(peer.call("fill", channel, limit=100) for peer in peers)
        )
        assert 50 <= sum(accepted) <= 52  # rivals may have looked at the same moment
        assert len(await here.collect(channel, count=sum(accepted))) == sum(accepted)
        await assert_nothing_waits(here, channel)

    @rule("capacity")
    async def test_channel_capacity_by_pattern(self, rig: Rig) -> None:
        """channel_capacity takes globs and compiled regular expressions; the first that matches counts."""
        patterns = {"tight*": 1, re.compile(r"^regex-\w+"): 2, "tight-but-later*": 9, "*.wide.*!*": 12}
        here = rig.here(capacity=SMALL, channel_capacity=patterns)
        wide = await here.new_channel("some.wide.")
        expected = {"tight": 1, "tight-but-later": 1, "regex-x": 2, "other": SMALL}
        for base, capacity in expected.items():
            assert await here.fill(rig.name(base), limit=20) == capacity, base
        assert await here.fill(wide, limit=20) == 12

    @rule("capacity", "groups", peers=True)
    async def test_group_send_never_raises_channel_full(self, rig: Rig) -> None:
        """A full member misses what does not fit, keeps what it has, and the other members get everything."""
        here, there = rig.here(capacity=SMALL), await rig.peer(capacity=SMALL)
        group = rig.name("group")
        (full,), (reading,) = await here.join(group), await there.join(group)
        for number in range(3 * SMALL):
            await here.group_send(group, {"type": "all", "number": number})
            assert await there.receive(reading) == {"type": "all", "number": number}
        kept = await here.collect(full, count=SMALL)
        assert [message["number"] for message in kept] == list(range(SMALL))
        await assert_nothing_waits(here, full)

    @rule("capacity", "groups", peers=True)
    async def test_full_member_elsewhere_hinders_nobody(self, rig: Rig) -> None:
        """The same when the full member is another node's: its neighbours there and here get everything."""
        here, there = rig.here(capacity=SMALL), await rig.peer(capacity=SMALL)
        group = rig.name("group")
        full, neighbour = await there.join(group, count=2)
        (mine,) = await here.join(group)
        for number in range(3 * SMALL):
            message = {"type": "all", "number": number}
            await here.group_send(group, message)
            assert await there.receive(neighbour) == message
            assert await here.receive(mine) == message
        assert len(await there.collect(full, count=SMALL)) == SMALL

    @rule("capacity", peers=True)
    async def test_full_channel_hinders_no_neighbour(self, rig: Rig) -> None:
        """Each channel of a node has its own room, so that one that nobody reads does not starve the others."""
        here, there = rig.here(capacity=SMALL), await rig.peer(capacity=SMALL)
        full, *others = [await there.new_channel() for _ in range(6)]
        await rig.eventually(lambda: self._full(here, full))
        for channel in others:
            assert await here.fill(channel, limit=SMALL) == SMALL
            assert_clean(await there.collect(channel, count=SMALL), sent={"fill": SMALL})

    async def _full(self, sender: Peer | Commands, channel: str) -> bool:
        return not await sender.has_room(channel, {"type": "filler"})
