"""Rules about names: which are valid, which are new, and whose they are."""

from typing import Any

import pytest
from channels.layers import BaseChannelLayer

from channels_trunk.testing.conformance.checks import assert_nothing_waits, refused
from channels_trunk.testing.conformance.rules import rule
from channels_trunk.testing.rig import Rig

LONGEST = 99
BAD_CHANNELS: list[Any] = ["", "a b", "caf\u00e9", "a/b", "a:b", "!", "!local", "a!b!c", "a" * 100, None, 5, b"bytes"]
BAD_GROUPS: list[Any] = ["", "a b", "caf\u00e9", "a/b", "a!b", "a" * 100, None, 5, b"bytes"]
ALMOST_ASCII: list[Any] = ["a\n", "a!b\n", "a!\u00e4", "\u0663", "a\u0663"]


class NameRules:
    """Names of channels and groups."""

    @rule()
    async def test_new_channels_are_unique_and_valid(self, rig: Rig) -> None:
        """new_channel() never gives a name twice, and gives valid names of process-specific channels."""
        layer = rig.layer()
        names = [await layer.new_channel() for _ in range(1000)]
        assert len(set(names)) == 1000
        for name in names:
            assert "!" in name
            BaseChannelLayer().require_valid_channel_name(name)

    @rule()
    async def test_new_channel_takes_a_prefix(self, rig: Rig) -> None:
        """new_channel(prefix) gives a name that starts with the prefix."""
        layer = rig.layer()
        assert (await layer.new_channel("chat.room")).startswith("chat.room")
        assert (await layer.new_channel(prefix="chat")).startswith("chat")

    @rule(peers=True)
    async def test_nodes_never_make_the_same_name(self, rig: Rig) -> None:
        """Names of different nodes differ in the part before the `!`, too: it says whose they are."""
        here, there = rig.here(), await rig.peer()
        assert (await here.new_channel()).partition("!")[0] != (await there.new_channel()).partition("!")[0]

    @rule("groups")
    async def test_longest_names_work(self, rig: Rig) -> None:
        """A name may have 99 characters."""
        here = rig.here()
        group = rig.name("longest").ljust(LONGEST, "g")
        own = await here.new_channel()
        channel = rig.name("longest").ljust(LONGEST, "c") if rig.features.normal_channels else own
        await here.send(channel, {"type": "one"})
        assert await here.receive(channel) == {"type": "one"}
        await here.group_add(group, channel)
        await here.group_send(group, {"type": "two"})
        assert await here.receive(channel) == {"type": "two"}

    @rule("groups")
    async def test_bad_channel_name_raises_type_error(self, rig: Rig) -> None:
        """Each method that takes a channel refuses a bad name at once."""
        await self._refused(rig, BAD_CHANNELS)

    @rule("groups")
    async def test_channel_name_is_ascii_to_its_end(self, rig: Rig) -> None:
        """Neither a trailing newline nor a letter or digit of another script passes for a valid name."""
        await self._refused(rig, ALMOST_ASCII)

    @rule("groups")
    async def test_bad_group_name_raises_type_error(self, rig: Rig) -> None:
        """Each method that takes a group refuses a bad name at once."""
        layer = rig.layer()
        channel = await layer.new_channel()
        for name in BAD_GROUPS:
            with refused(name):
                await layer.group_add(name, channel)
            with refused(name):
                await layer.group_discard(name, channel)
            with refused(name):
                await layer.group_send(name, {"type": "message"})

    @rule(peers=True)
    async def test_receive_of_another_nodes_channel_is_refused(self, rig: Rig) -> None:
        """A receive() that can never get anything raises instead of waiting for ever."""
        here, there = rig.here(), await rig.peer()
        theirs = await there.new_channel()
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the specification names no class
            await here.receive(theirs, within=5)
        assert not isinstance(caught.value, TimeoutError)

    @rule("prefix", "groups", "flush", "normal_channels", peers=True)
    async def test_prefixes_are_kept_apart(self, rig: Rig) -> None:
        """Neither groups, nor normal channels, nor a flush reach over from a layer with another prefix."""
        here, there, apart = rig.here(prefix="one"), await rig.peer(prefix="one"), await rig.peer(prefix="two")
        group, normal = rig.name("group"), rig.name("normal")
        (mine,), (theirs,), (other,) = await here.join(group), await there.join(group), await apart.join(group)
        await apart.group_send(group, {"type": "two"})
        await apart.send(normal, {"type": "two"})
        await here.group_send(group, {"type": "one"})
        await here.send(normal, {"type": "one"})
        await apart.call("flush")
        await apart.group_add(group, other)
        assert await here.receive(mine) == {"type": "one"}
        assert await there.receive(theirs) == {"type": "one"}
        assert await there.receive(normal) == {"type": "one"}
        for reader, channel in ((here, mine), (there, theirs), (here, normal), (apart, normal)):
            await assert_nothing_waits(reader, channel)
        await here.group_send(group, {"type": "one"})
        await assert_nothing_waits(apart, other)

    @rule("foreign_names", peers=True)
    async def test_name_of_no_node_is_a_normal_channel(self, rig: Rig) -> None:
        """A name with `!` that no node made works as a normal channel by its full name, in any process."""
        here, there = rig.here(), await rig.peer()
        channel, other = rig.name("tests") + "!one", rig.name("tests") + "!two"
        await here.send(channel, {"type": "first"})
        await there.send(other, {"type": "second"})
        assert await there.receive(channel) == {"type": "first"}
        assert await here.receive(other) == {"type": "second"}

    async def _refused(self, rig: Rig, names: list[Any]) -> None:
        here = rig.here()
        for name in names:
            with refused(name):
                await here.send(name, {"type": "message"})
            with refused(name):
                await here.receive(name, within=5)
            with refused(name):
                await here.group_add("group", name)
            with refused(name):
                await here.group_discard("group", name)
