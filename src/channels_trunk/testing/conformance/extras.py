"""Rules about encryption, statistics, and loss on purpose."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from channels_trunk.testing.commands import Commands
from channels_trunk.testing.conformance.checks import MARK, assert_clean
from channels_trunk.testing.conformance.rules import rule
from channels_trunk.testing.ledger import audit, numbered
from channels_trunk.testing.peers import Peer
from channels_trunk.testing.rig import Rig
from channels_trunk.testing.waiting import eventually

PLENTY = 100_000
HELLO = {"type": "hello"}
UNREADABLE = {"type": "unreadable"}


class EncryptionRules:
    """`symmetric_encryption_keys`."""

    @rule("encryption", "groups", peers=True)
    async def test_nodes_with_the_same_key(self, rig: Rig) -> None:
        """Every way of sending works with encryption."""
        config = {"symmetric_encryption_keys": ["secret"]}
        here, there = rig.here(**config), await rig.peer(**config)
        await self._reaches(rig, here, there)
        await self._reaches(rig, there, here)

    @rule("encryption", "groups", peers=True)
    async def test_keys_can_be_changed_while_running(self, rig: Rig) -> None:
        """The first key encrypts, all decrypt: nodes with old and new keys work together."""
        here = rig.here(symmetric_encryption_keys=["new", "old"])
        there = await rig.peer(symmetric_encryption_keys=["old", "new"])
        await self._reaches(rig, here, there)
        await self._reaches(rig, there, here)

    @rule("encryption", "groups", peers=True)
    async def test_wrong_key_never_stops_a_reader(self, rig: Rig) -> None:
        """Messages of a node with another key, or none, are skipped; those of the right key go on arriving."""
        here, right = rig.here(symmetric_encryption_keys=["right"]), await rig.peer(symmetric_encryption_keys=["right"])
        wrong, none = await rig.peer(symmetric_encryption_keys=["wrong"]), await rig.peer()
        group = rig.name("group")
        (mine,) = await here.join(group)
        waiting = asyncio.ensure_future(here.receive(mine))
        for stranger in (wrong, none):
            for _ in range(3):
                await stranger.group_send(group, {"type": "strange"})
                await stranger.send(mine, {"type": "strange"})
        await right.group_send(group, HELLO)
        assert await waiting == HELLO
        await self._reaches(rig, right, here)

    @rule("encryption", "normal_channels", peers=True)
    async def test_wrong_key_never_stops_a_worker(self, rig: Rig) -> None:
        """A job that a worker cannot decrypt is skipped, and the next one is done."""
        here, wrong = rig.here(symmetric_encryption_keys=["right"]), await rig.peer(symmetric_encryption_keys=["wrong"])
        channel = rig.name("jobs")
        for number in range(3):
            await wrong.send(channel, {"type": "strange"})
            await here.send(channel, numbered("here", number))
            assert await here.receive(channel) == numbered("here", number)

    @rule("encryption", "statistics", "groups", peers=True)
    async def test_undecryptable_messages_are_counted(self, rig: Rig) -> None:
        """The statistics of the reader say how many there were."""
        here, wrong = rig.here(symmetric_encryption_keys=["right"]), await rig.peer(symmetric_encryption_keys=["wrong"])
        group = rig.name("group")
        await here.join(group)
        before = await here.stats()
        await wrong.group_send(group, {"type": "strange"})
        await rig.eventually(lambda: self._skipped_more(here, before["skipped_frames_total"]))

    async def _skipped_more(self, here: Commands, than: int) -> bool:
        return (await here.stats())["skipped_frames_total"] > than

    async def _reaches(self, rig: Rig, sender: Commands | Peer, reader: Commands | Peer) -> None:
        group = rig.name("reached")
        (channel,) = await reader.join(group)
        await sender.send(channel, {"type": "direct"})
        await sender.group_send(group, {"type": "group"})
        assert await reader.collect(channel, count=2) == [{"type": "direct"}, {"type": "group"}]
        for kind in await rig.each_kind(reader):
            await sender.send(kind, {"type": "each"})
            assert await reader.receive(kind) == {"type": "each"}


class Damage:
    """Has a layer's codec write a frame that is nested beyond all depth in the place of one that carries UNREADABLE."""

    def __init__(self, layer: Any) -> None:
        self.frames = 0
        """How many frames there were, whole or not."""
        self._codec = layer._codec
        self._encode = self._codec.encode_frame
        self._codec.encode_frame = self._encoded

    def _encoded(self, origin: str, envelopes: Sequence[Any]) -> bytes:
        self.frames += 1
        if not any(UNREADABLE["type"].encode() in envelope.body for envelope in envelopes):
            whole: bytes = self._encode(origin, envelopes)
            return whole
        empty: bytes = self._encode(origin, ())
        start = 3 + empty[2]  # behind the version, whether it is encrypted, and the prefix
        # An array of one more than there are, as if a later version had something to add.
        return empty[:start] + bytes((empty[start] + 1,)) + empty[start + 1 :] + b"\x91" * 2000 + b"\xc0"


class StatisticsRules:
    """`layer.stats()` and `layer.health()`."""

    @rule("statistics", "capacity", "groups")
    async def test_overflow_is_counted(self, rig: Rig) -> None:
        """What a group_send() drops for a full member is counted, one by one."""
        here = rig.here(capacity=2)
        group = rig.name("group")
        await here.join(group, count=2)
        for _ in range(5):
            await here.group_send(group, HELLO)
        assert (await here.stats())["dropped_overflow_total"] == 6

    @rule("statistics", "expiry", "capacity")
    async def test_expiry_is_counted(self, rig: Rig) -> None:
        """Messages that expired unread are counted."""
        here = rig.here(expiry=rig.under_test.shortest_expiry, capacity=1)
        channel = await here.new_channel()
        await here.send(channel, HELLO)
        within = rig.under_test.shortest_expiry * 2 + rig.seconds(5)
        await eventually(lambda: here.has_room(channel, MARK), within=within)
        await rig.eventually(lambda: self._reached(here, "dropped_expired_total", 1))

    @rule("statistics", "groups", peers=True)
    async def test_traffic_is_counted(self, rig: Rig) -> None:
        """Each message that is sent or received moves a counter, and counters never fall."""
        here, there = rig.here(), await rig.peer()
        mine, theirs = await here.new_channel(), await there.new_channel()
        before = await here.stats()
        await here.send(theirs, HELLO)
        await there.receive(theirs)
        after_send = await here.stats()
        await there.send(mine, HELLO)
        await here.receive(mine)
        after_receive = await here.stats()
        assert self._moved(before, after_send)
        assert self._moved(after_send, after_receive)

    @rule("statistics", "groups", "normal_channels", peers=True)
    async def test_unreadable_frame_takes_nothing_along(self, rig: Rig) -> None:
        """Between good messages lies one frame that no decoder expects: they arrive, and it is skipped and counted."""
        sender = rig.layer()
        damage = Damage(sender)
        here, there = rig.commands(sender), await rig.peer()
        group, jobs = rig.name("group"), rig.name("jobs")
        await here.new_channel()
        (theirs,) = await there.join(group)
        ways = (
            (partial(here.send, theirs), theirs),
            (partial(here.group_send, group), theirs),
            (partial(here.send, jobs), jobs),
        )
        for count, (send, channel) in enumerate(ways, start=1):
            for message in (numbered("good", 0), UNREADABLE, numbered("good", 1)):
                await send(message)
            if not damage.frames:
                return  # this engine moves messages without frames
            assert await there.collect(channel, count=2) == [numbered("good", 0), numbered("good", 1)]
            await rig.eventually(partial(self._counts, there, "skipped_frames_total", count))

    async def _counts(self, node: Peer, counter: str, value: int) -> bool:
        return bool((await node.call("stats"))[counter] == value)

    @rule("statistics")
    async def test_snapshot_stands_still(self, rig: Rig) -> None:
        """stats() is a snapshot: it does not change, and cannot be changed."""
        here = rig.here()
        snapshot = here.layer.stats()
        before = repr(snapshot)
        channel = await here.new_channel()
        await here.send(channel, HELLO)
        assert repr(snapshot) == before
        with pytest.raises((AttributeError, TypeError)):
            snapshot.dropped_overflow_total = 5

    @rule("statistics", peers=True)
    async def test_health_of_a_layer_at_work(self, rig: Rig) -> None:
        """A layer that works says that it is well, in a word."""
        here, there = rig.here(), await rig.peer()
        theirs = await there.new_channel()
        await here.send(theirs, HELLO)
        assert await there.receive(theirs) == HELLO
        assert here.layer.health().state == "ok"

    def _moved(self, before: Mapping[str, int], after: Mapping[str, int]) -> bool:
        assert all(after[name] >= before[name] for name in before)
        return after != before

    async def _reached(self, here: Any, counter: str, value: int) -> bool:
        return bool((await here.stats())[counter] >= value)


class ResilienceRules:
    """`resilience`: loss on purpose, for development."""

    @rule("resilience", "statistics", "groups", peers=True)
    async def test_drop_loses_messages(self, rig: Rig) -> None:
        """With drop=0.5, about half of the messages get lost, here as elsewhere; each is counted, and the others come
        in order."""
        here, there = rig.here(resilience={"drop": 0.5}, capacity=PLENTY), await rig.peer(capacity=PLENTY)
        mine, theirs = await here.new_channel(), await there.new_channel()
        for reader, channel in ((here, mine), (there, theirs)):
            before = (await here.stats())["dropped_resilience_total"]
            await here.flood(channel, count=400, sender="here")
            dropped = (await here.stats())["dropped_resilience_total"] - before
            assert 100 < dropped < 300
            received = await reader.collect(channel, count=400 - dropped)
            result = audit(received, sent={"here": 400})
            found = len(result.lost), result.repeated, result.disordered
            assert found == (dropped, (), ())

    @rule("resilience", "groups", peers=True)
    async def test_disconnects_and_delays_lose_nothing(self, rig: Rig) -> None:
        """With disconnect=0.02 and delay=0.002, each message comes once and in order, only later."""
        trouble = {"resilience": {"disconnect": 0.02, "delay": 0.002}, "capacity": PLENTY}
        here, there = rig.here(**trouble), await rig.peer(**trouble)
        (mine,), (theirs,) = await here.join(rig.name("mine")), await there.join(rig.name("theirs"))
        count = rig.scaled(200)
        got = await asyncio.gather(
            here.collect(mine, count=2 * count),
            there.collect(theirs, count=2 * count),
            here.flood(theirs, count=count, sender="direct"),
            here.flood_group(rig.name("theirs"), count=count, sender="group"),
            there.call("flood", mine, count=count, sender="direct"),
            there.call("flood_group", rig.name("mine"), count=count, sender="group"),
        )
        for received in got[:2]:
            assert_clean(received, sent={"direct": count, "group": count})
