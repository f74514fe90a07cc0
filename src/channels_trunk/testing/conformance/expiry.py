"""Rules about time: messages that nobody reads, and memberships that nobody renews.

None of them waits for a time to pass: a channel with the capacity of one message takes a second one when, and only
when, the first has expired. So the room that becomes free tells that the time has come. Nor is any of them misled by a
machine that stands still for a moment: what has ended too early is told from what was looked at too late.
"""

import asyncio
import time
from functools import partial

from channels_trunk.testing.commands import Commands
from channels_trunk.testing.conformance.checks import MARK, Node, assert_nothing_waits
from channels_trunk.testing.conformance.rules import rule
from channels_trunk.testing.layer import Message
from channels_trunk.testing.peers import Peer
from channels_trunk.testing.rig import Rig
from channels_trunk.testing.waiting import eventually

OLD = {"type": "old"}
NEW = {"type": "new"}


class ExpiryRules:
    """`expiry` and `group_expiry`."""

    @rule("expiry", "capacity")
    async def test_expired_message_is_neither_counted_nor_delivered(self, rig: Rig) -> None:
        """What sat unread for `expiry` seconds makes room, and what is received is the next message."""
        here = rig.here(expiry=rig.under_test.shortest_expiry, capacity=1)
        for channel in await rig.each_kind(here):
            await self._outlived(rig, sender=here, channel=channel)
            assert await here.receive(channel) == NEW
            await assert_nothing_waits(here, channel)

    @rule("expiry", "capacity", peers=True)
    async def test_message_to_another_node_expires(self, rig: Rig) -> None:
        """Messages from another node expire alike, in a specific and in a normal channel."""
        config = {"expiry": rig.under_test.shortest_expiry, "capacity": 1}
        here, there = rig.here(**config), await rig.peer(**config)
        for channel in await rig.each_kind(there):
            began = time.monotonic()
            await here.send(channel, OLD)
            # An owner that is slow to answer counts as full, so a channel that is full does not show that OLD is there.
            await self._brought(rig, sender=here, owner=there)
            await self._outlived_elsewhere(rig, began, sender=here, owner=there, channel=channel)

    @rule("expiry")
    async def test_message_lives_until_it_expires(self, rig: Rig) -> None:
        """A backlog is there for `expiry` seconds: what is read in time is whole."""
        here = rig.here(expiry=60)
        for channel in await rig.each_kind(here):
            await here.flood(channel, count=50)
            assert len(await here.collect(channel, count=50)) == 50

    @rule("expiry", "capacity", "groups")
    async def test_channel_with_an_expired_message_leaves_its_groups(self, rig: Rig) -> None:
        """A consumer that is gone must not leak: when its messages expire unread, it leaves its groups."""
        here = rig.here(expiry=rig.under_test.shortest_expiry, capacity=1)
        groups = [rig.name("one"), rig.name("two")]
        (gone,) = await here.join(groups[0])
        await here.group_add(groups[1], gone)
        await self._outlived(rig, sender=here, channel=gone)
        assert await here.receive(gone) == NEW
        for group in groups:
            # Received as it comes: what waited would expire before the mark has room.
            waiting = asyncio.ensure_future(here.receive(gone))
            await here.group_send(group, {"type": "to the group"})
            await rig.eventually(lambda: here.has_room(gone, MARK))
            assert await waiting == MARK

    @rule("expiry", "capacity", "groups", peers=True)
    async def test_another_nodes_channel_leaves_its_groups(self, rig: Rig) -> None:
        """The same when what expired came from another node, by the group, and the sender is that node."""
        config = {"expiry": rig.under_test.shortest_expiry, "capacity": 1}
        here, there = rig.here(**config), await rig.peer(**config)
        group = rig.name("group")
        (gone,) = await there.join(group)
        began = time.monotonic()
        await here.group_send(group, OLD)
        await self._outlived_elsewhere(rig, began, sender=here, owner=there, channel=gone)
        # Received as it comes: the mark lives no longer than the others.
        waiting = there.start("receive", gone)
        await here.group_send(group, {"type": "to the group"})
        await rig.eventually(lambda: here.has_room(gone, MARK))
        assert await waiting == MARK

    @rule("expiry", "groups", "capacity")
    async def test_channel_that_is_read_stays_in_its_groups(self, rig: Rig) -> None:
        """While others' messages expire, a channel whose messages are read keeps its membership."""
        here = rig.here(expiry=rig.under_test.shortest_expiry, capacity=1)
        group = rig.name("group")
        (reading,) = await here.join(group)
        await self._outlived(rig, sender=here, channel=await here.new_channel())
        await here.group_send(group, NEW)
        assert await here.receive(reading) == NEW

    @rule("expiry", "capacity", "groups", "normal_channels", peers=True)
    async def test_normal_channel_with_an_expired_message_stays_in_its_groups(self, rig: Rig) -> None:
        """Its workers may only be away for a while, and must not be deaf in silence when they are back."""
        config = {"expiry": rig.under_test.shortest_expiry, "capacity": 1}
        here, there = rig.here(**config), await rig.peer(**config)
        group, jobs = rig.name("group"), rig.name("jobs")
        await here.group_add(group, jobs)
        senders: tuple[Node, ...] = (here, there)
        for sender in (*senders, *senders):
            # Nobody reads it: there is room when what the one before had sent has expired.
            await eventually(partial(sender.has_room, jobs, OLD), within=self._long(rig))
        for sender in senders:
            waiting = asyncio.ensure_future(self._received(here, jobs, MARK))
            await rig.eventually(partial(self._heard_by_group, sender, group, waiting))

    @rule("group_expiry", "groups", peers=True)
    async def test_membership_ends_after_group_expiry(self, rig: Rig) -> None:
        """A membership that is not renewed ends; group_add() begins it anew."""
        short = rig.under_test.shortest_group_expiry
        here, there = rig.here(group_expiry=short), await rig.peer(group_expiry=short)
        group = rig.name("group")
        (channel,) = await here.join(group)
        for sender in (here, there):
            began = time.monotonic()
            await here.group_add(group, channel)
            is_member = await self._still_member(here, sender=sender, group=group, channel=channel)
            assert is_member or time.monotonic() - began > short * 0.9
            await eventually(
                partial(self._no_member, here, sender=sender, group=group, channel=channel),
                within=short + rig.seconds(5),
            )
            assert time.monotonic() - began > short * 0.9

    @rule("group_expiry", "groups")
    async def test_group_add_renews_the_membership(self, rig: Rig) -> None:
        """The time counts from the latest group_add(): a membership that began later and is not renewed ends first."""
        short = rig.under_test.shortest_group_expiry
        here = rig.here(group_expiry=short)
        group, renewed_group = rig.name("group"), rig.name("renewed")
        (channel,) = await here.join(renewed_group)
        await here.group_add(group, channel)
        renewed_at = 0.0

        async def ended() -> bool:
            nonlocal renewed_at
            renewed_at = time.monotonic()
            await here.group_add(renewed_group, channel)
            return await self._no_member(here, sender=here, group=group, channel=channel)

        await eventually(ended, within=short + rig.seconds(5))
        is_member = await self._still_member(here, sender=here, group=renewed_group, channel=channel)
        assert is_member or time.monotonic() - renewed_at > short * 0.9

    @rule("group_expiry", "groups")
    async def test_group_expiry_of_zero_means_never(self, rig: Rig) -> None:
        """With group_expiry=0, a membership outlives one that has a short time."""
        short = rig.under_test.shortest_group_expiry
        brief, lasting = rig.here(group_expiry=short), rig.here(group_expiry=0)
        groups = rig.name("brief"), rig.name("lasting")
        (brief_channel,), (lasting_channel,) = await brief.join(groups[0]), await lasting.join(groups[1])
        await eventually(
            lambda: self._no_member(brief, sender=brief, group=groups[0], channel=brief_channel),
            within=short + rig.seconds(5),
        )
        assert await self._still_member(lasting, sender=lasting, group=groups[1], channel=lasting_channel)

    def _long(self, rig: Rig) -> float:
        return rig.under_test.shortest_expiry * 2 + rig.seconds(5)

    async def _outlived(self, rig: Rig, *, sender: Commands | Peer, channel: str) -> None:
        began = time.monotonic()
        assert await sender.has_room(channel, OLD)
        await eventually(lambda: sender.has_room(channel, NEW), within=self._long(rig))
        assert time.monotonic() - began > rig.under_test.shortest_expiry * 0.9

    async def _outlived_elsewhere(
        self, rig: Rig, began: float, *, sender: Commands | Peer, owner: Peer, channel: str
    ) -> None:
        # That the sender is told of a full channel shows that OLD has arrived; then the owner waits for room.
        await rig.eventually(lambda: self._full(sender, channel))
        got = await eventually(lambda: owner.call("exchange", channel, NEW), within=self._long(rig))
        assert time.monotonic() - began > rig.under_test.shortest_expiry * 0.9
        assert got == NEW

    async def _received(self, reader: Commands, channel: str, message: Message) -> None:
        while await reader.layer.receive(channel) != message:
            pass

    async def _heard_by_group(self, sender: Node, group: str, waiting: "asyncio.Future[None]") -> bool:
        # Again and again: what is sent may expire before a machine that stands still has brought it.
        await sender.group_send(group, MARK)
        return waiting.done()

    async def _brought(self, rig: Rig, *, sender: Commands, owner: Peer) -> None:
        channel = await owner.new_channel()
        waiting = asyncio.ensure_future(owner.receive(channel))
        await rig.eventually(partial(self._heard, sender, channel, waiting))

    async def _heard(self, sender: Commands, channel: str, waiting: "asyncio.Future[Message]") -> bool:
        # Again and again, as above.
        await sender.has_room(channel, MARK)
        return waiting.done()

    async def _full(self, sender: Commands | Peer, channel: str) -> bool:
        return not await sender.has_room(channel, NEW)

    async def _no_member(self, reader: Node, *, sender: Node, group: str, channel: str) -> bool:
        return not await self._still_member(reader, sender=sender, group=group, channel=channel)

    async def _still_member(self, reader: Node, *, sender: Node, group: str, channel: str) -> bool:
        await sender.group_send(group, {"type": "member?"})
        await sender.send(channel, MARK)
        got = await reader.receive(channel)
        if got == MARK:
            return False
        assert got == {"type": "member?"}
        assert await reader.receive(channel) == MARK
        return True
