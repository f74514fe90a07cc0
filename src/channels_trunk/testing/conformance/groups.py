"""Rules about groups."""

import asyncio

from channels_trunk.testing.conformance.checks import assert_clean, assert_nothing_waits
from channels_trunk.testing.conformance.rules import rule
from channels_trunk.testing.ledger import numbered
from channels_trunk.testing.rig import Rig

PLENTY = 100_000
HELLO = {"type": "hello"}


class GroupRules:
    """The groups extension."""

    @rule("groups")
    async def test_layer_names_the_extension(self, rig: Rig) -> None:
        """A layer with groups says so, and has a group_expiry."""
        layer = rig.layer()
        assert "groups" in layer.extensions
        assert isinstance(layer.group_expiry, (int, float))

    @rule("groups", peers=True)
    async def test_each_member_gets_the_message_once(self, rig: Rig) -> None:
        """Members here and elsewhere get it, and nobody else does, whoever sends."""
        here, there = rig.here(), await rig.peer()
        group = rig.name("group")
        mine, theirs = await here.join(group, count=3), await there.join(group, count=3)
        outsider = await here.new_channel()
        for sender in (here, there):
            await sender.group_send(group, HELLO)
            for reader, channels in ((here, mine), (there, theirs)):
                for channel in channels:
                    assert await reader.receive(channel) == HELLO
                    await assert_nothing_waits(reader, channel, sender=sender)
            await assert_nothing_waits(here, outsider, sender=sender)

    @rule("groups")
    async def test_group_add_twice_is_one_membership(self, rig: Rig) -> None:
        """Adding a member again changes nothing, and one discard undoes both."""
        here = rig.here()
        group = rig.name("group")
        (channel,) = await here.join(group)
        await here.group_add(group, channel)
        await here.group_send(group, HELLO)
        assert await here.receive(channel) == HELLO
        await assert_nothing_waits(here, channel)
        await here.group_discard(group, channel)
        await here.group_send(group, HELLO)
        await assert_nothing_waits(here, channel)

    @rule("groups", peers=True)
    async def test_discarded_channel_gets_nothing_more(self, rig: Rig) -> None:
        """After group_discard() returned, no message of the group comes, whoever sends; rejoining works."""
        here, there = rig.here(), await rig.peer()
        group = rig.name("group")
        (channel,) = await here.join(group)
        for sender in (here, there):
            await here.group_discard(group, channel)
            await sender.group_send(group, HELLO)
            await assert_nothing_waits(here, channel, sender=sender)
            await here.group_add(group, channel)
            await sender.group_send(group, HELLO)
            assert await here.receive(channel) == HELLO

    @rule("groups")
    async def test_discard_of_no_member_does_nothing(self, rig: Rig) -> None:
        """Neither a channel that is in no group, nor a group that nobody is in, nor doing it twice is an error."""
        here = rig.here()
        group = rig.name("group")
        (member,) = await here.join(group)
        stranger = await here.new_channel()
        await here.group_discard(group, stranger)
        await here.group_discard(rig.name("nobody"), stranger)
        for channel in (stranger, stranger):
            await here.group_discard(group, channel)
        await here.group_send(group, HELLO)
        assert await here.receive(member) == HELLO

    @rule("groups", peers=True)
    async def test_group_without_members_takes_messages(self, rig: Rig) -> None:
        """Sending to nobody is no error, neither before there were members nor after, and is not kept for later."""
        here, there = rig.here(), await rig.peer()
        group = rig.name("group")
        await here.group_send(group, HELLO)
        (channel,) = await there.join(group)
        await assert_nothing_waits(there, channel, sender=here)
        await there.group_discard(group, channel)
        await here.group_send(group, HELLO)
        await assert_nothing_waits(there, channel, sender=here)

    @rule("groups")
    async def test_channel_in_several_groups(self, rig: Rig) -> None:
        """It gets the messages of each; leaving one leaves the others."""
        here = rig.here()
        one, two = rig.name("one"), rig.name("two")
        (channel,) = await here.join(one)
        await here.group_add(two, channel)
        await here.group_send(one, {"type": "one"})
        await here.group_send(two, {"type": "two"})
        assert [message["type"] for message in await here.collect(channel, count=2)] == ["one", "two"]
        await here.group_discard(one, channel)
        await here.group_send(one, {"type": "one"})
        await here.group_send(two, {"type": "two"})
        assert await here.receive(channel) == {"type": "two"}

    @rule("groups", peers=True)
    async def test_groups_are_kept_apart(self, rig: Rig) -> None:
        """Groups whose names are alike do not mix, and a channel that bears a group's name is no member."""
        here, there = rig.here(), await rig.peer()
        names = [rig.name("room"), rig.name("room") + ".", rig.name("room") + "-1", rig.name("ROOM")]
        members = [(await there.join(name))[0] for name in names]
        for name in names:
            await here.group_send(name, {"type": "for", "group": name})
        for name, member in zip(names, members, strict=True):
            assert await there.receive(member) == {"type": "for", "group": name}
            await assert_nothing_waits(there, member, sender=here)
        if rig.features.normal_channels:
            await assert_nothing_waits(here, names[0])

    @rule("groups", peers=True)
    async def test_many_members(self, rig: Rig) -> None:
        """A group of hundreds of members of two nodes: each gets each message, in order."""
        here, there = rig.here(), await rig.peer()
        group = rig.name("group")
        count = rig.scaled(300)
        mine, theirs = await here.join(group, count=count), await there.join(group, count=count)
        await here.flood_group(group, count=5, sender="here")
        sides = await asyncio.gather(here.collect_each(mine, count=5), there.collect_each(theirs, count=5))
        for received in (*sides[0], *sides[1]):
            assert_clean(received, sent={"here": 5})

    @rule("groups", peers=True)
    async def test_membership_holds_when_group_add_returns(self, rig: Rig) -> None:
        """Another node's very next group_send() reaches the new member, time and again."""
        here, there = rig.here(), await rig.peer()
        for number in range(rig.scaled(50)):
            group = rig.name(f"group-{number}")
            (channel,) = await there.join(group)
            await here.group_send(group, numbered("here", number))
            assert await there.receive(channel) == numbered("here", number)

    @rule("groups", peers=True, within=100)
    async def test_groups_order(self, rig: Rig) -> None:
        """What one node sends to a group while it is read comes to each member, once and in order."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        group = rig.name("group")
        count = rig.scaled(1000)
        (mine,), (theirs,) = await here.join(group), await there.join(group)
        senders = {
            "here": here.flood_group(group, count=count, sender="here", pace=1),
            "there": there.call("flood_group", group, count=count, sender="there", pace=1, patience=100),
        }
        got = await asyncio.gather(
            here.collect(mine, count=2 * count), there.collect(theirs, count=2 * count), *senders.values()
        )
        for received in got[:2]:
            assert_clean(received, sent=dict.fromkeys(senders, count))


class RemoteGroupRules:
    """Members that another node adds, and members that are no node's."""

    @rule("groups", "remote_group_add", peers=True)
    async def test_adding_another_nodes_channel(self, rig: Rig) -> None:
        """It holds when the call returns: for the adding node, for the owner, and for a third one."""
        here, (there, third) = rig.here(), await rig.peers(2)
        for number in range(10):
            group = rig.name(f"group-{number}")
            theirs = await there.new_channel()
            await here.group_add(group, theirs)
            for sender in (here, third, there):
                await sender.group_send(group, HELLO)
                assert await there.receive(theirs) == HELLO

    @rule("groups", "remote_group_add", peers=True)
    async def test_discarding_another_nodes_channel(self, rig: Rig) -> None:
        """It holds when the call returns: what is sent afterwards, by whichever node, does not arrive."""
        here, (there, third) = rig.here(), await rig.peers(2)
        for number in range(10):
            group = rig.name(f"group-{number}")
            (theirs,) = await there.join(group)
            await here.group_discard(group, theirs)
            for sender in (here, third, there):
                await sender.group_send(group, HELLO)
                await assert_nothing_waits(there, theirs, sender=sender)

    @rule("groups", "remote_group_add", peers=True, within=60)
    async def test_channel_of_a_node_that_is_gone(self, rig: Rig) -> None:
        """Adding, discarding and sending have no effect and raise nothing; the others in the group are not hindered."""
        here, there = rig.here(), await rig.peer()
        group = rig.name("group")
        (theirs,), (mine,) = await there.join(group), await here.join(group)
        await there.stop()
        await here.group_add(group, theirs)
        await here.group_add(rig.name("other"), theirs)
        await here.send(theirs, HELLO)
        await here.group_send(group, HELLO)
        assert await here.receive(mine) == HELLO
        await here.group_discard(group, theirs)
        await here.group_discard(rig.name("other"), theirs)

    @rule("groups", "normal_channels", peers=True)
    async def test_normal_channel_as_member(self, rig: Rig) -> None:
        """It gets each message once, though several nodes live, have added it and have members of the group."""
        here, there = rig.here(), await rig.peer()
        group, normal = rig.name("group"), rig.name("worker")
        (mine,), (theirs,) = await here.join(group), await there.join(group)
        await here.group_add(group, normal)
        await there.group_add(group, normal)
        for sender, reader in ((here, here), (there, here), (here, there), (there, there)):
            await sender.group_send(group, HELLO)
            assert await reader.receive(normal) == HELLO
            await assert_nothing_waits(reader, normal, sender=sender)
            assert await here.receive(mine) == HELLO
            assert await there.receive(theirs) == HELLO

    @rule("groups", "normal_channels", peers=True)
    async def test_discarded_normal_channel_gets_nothing_more(self, rig: Rig) -> None:
        """A normal channel leaves for all nodes, whichever discards it and whoever sent to it; and may come back."""
        here, there = rig.here(), await rig.peer()
        group, normal = rig.name("group"), rig.name("worker")
        for adding, discarding in ((here, here), (here, there), (there, here)):
            await adding.group_add(group, normal)
            for sender in (here, there):
                await sender.group_send(group, HELLO)
                assert await here.receive(normal) == HELLO
            await discarding.group_discard(group, normal)
            for sender in (here, there):
                await sender.group_send(group, HELLO)
                await assert_nothing_waits(here, normal, sender=sender)
