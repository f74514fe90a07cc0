"""Rules about the layer object's life: made, flushed, closed, dropped."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from channels_trunk.testing.conformance.checks import assert_clean, assert_nothing_waits
from channels_trunk.testing.conformance.rules import blocking_rule, rule
from channels_trunk.testing.rig import Rig

PLENTY = 100_000
HELLO = {"type": "hello"}
OLD = {"type": "old"}


class FlushRules:
    """The flush extension."""

    @rule("flush")
    async def test_layer_names_the_flush_extension(self, rig: Rig) -> None:
        """A layer that can be flushed says so."""
        assert "flush" in rig.layer().extensions

    @rule("flush", "groups", peers=True)
    async def test_flush_empties_every_node(self, rig: Rig) -> None:
        """When flush() returns, no message and no membership is left, in any process."""
        here, there = rig.here(), await rig.peer()
        group = rig.name("group")
        (mine,), (theirs,) = await here.join(group), await there.join(group)
        others = await rig.each_kind(here)
        for channel in (mine, theirs, *others):
            await here.send(channel, OLD)
            await there.send(channel, OLD)
        await here.flush()
        await here.group_send(group, OLD)
        await assert_nothing_waits(there, theirs, sender=here)
        for channel in (mine, *others):
            await assert_nothing_waits(here, channel)

    @rule("flush", "groups", peers=True)
    async def test_layer_works_after_flush(self, rig: Rig) -> None:
        """New channels and groups work in every node; so do waiting receivers."""
        here, there = rig.here(), await rig.peer()
        group = rig.name("group")
        theirs = await there.new_channel()
        waiting = there.start("receive", theirs)
        await there.group_send(group, OLD)
        await here.flush()
        await here.send(theirs, HELLO)
        assert await waiting == HELLO
        (mine,) = await here.join(group)
        await there.group_send(group, HELLO)
        assert await here.receive(mine) == HELLO

    @rule("flush", "capacity", peers=True)
    async def test_flush_makes_room(self, rig: Rig) -> None:
        """A channel that was full takes messages again, from here and from elsewhere."""
        here, there = rig.here(capacity=3), await rig.peer(capacity=3)
        for channel in await rig.each_kind(here):
            await here.fill(channel, limit=4)
            await rig.eventually(partial(self._full, there, channel))
            await here.flush()
            await rig.eventually(partial(there.has_room, channel, HELLO))
            assert await here.receive(channel) == HELLO

    async def _full(self, sender: Any, channel: str) -> bool:
        return not await sender.has_room(channel, OLD)


_TIMES = 3


class CloseRules:
    """close()."""

    @rule()
    async def test_close_of_an_unused_layer(self, rig: Rig) -> None:
        """It does nothing, once or twice."""
        here = rig.here()
        await here.close()
        await here.close()

    @rule("groups", peers=True)
    async def test_closed_layer_can_be_used_again(self, rig: Rig) -> None:
        """After close(), new channels, normal channels and groups work, here and between nodes."""
        here, there = rig.here(), await rig.peer()
        for turn in range(3):
            group = rig.name(f"group-{turn}")
            (mine,), (theirs,) = await here.join(group), await there.join(group)
            await here.group_send(group, HELLO)
            await there.group_send(group, HELLO)
            for reader, channel in ((here, mine), (there, theirs)):
                assert await reader.collect(channel, count=2) == [HELLO, HELLO]
            for channel in await rig.each_kind(here):
                await here.send(channel, HELLO)
                assert await here.receive(channel) == HELLO
            await here.close()

    @rule(peers=True)
    async def test_close_sends_what_is_pending(self, rig: Rig) -> None:
        """What was sent before close() arrives, to the last message."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        count = rig.scaled(300)
        channel = await there.new_channel()
        await asyncio.gather(*(here.flood(channel, count=count, sender=name) for name in ("one", "two")))
        await here.close()
        assert_clean(await there.collect(channel, count=2 * count), sent={"one": count, "two": count})

    @rule("normal_channels", peers=True)
    async def test_messages_of_a_node_that_ended_are_delivered(self, rig: Rig) -> None:
        """What a node sent to a normal channel before it ended in good order waits for a reader."""
        here, there = rig.here(), await rig.peer()
        channel = rig.name("jobs")
        await here.new_channel()  # a layer that lives in memory lives as long as one node does
        await there.call("flood", channel, count=20, sender="there")
        await there.stop()
        assert_clean(await here.collect(channel, count=20), sent={"there": 20})

    @rule("normal_channels", peers=True)
    async def test_waiting_receiver_outlives_close(self, rig: Rig) -> None:
        """A receive() that waits on a normal channel across close() gets what comes when the layer is used again."""
        here, there = rig.here(), await rig.peer()
        channel = rig.name("normal")
        waiting = asyncio.ensure_future(here.receive(channel))
        await asyncio.sleep(0)
        await here.close()
        await here.new_channel()
        await there.send(channel, HELLO)
        assert await waiting == HELLO

    @rule("groups", peers=True)
    async def test_close_of_one_node_leaves_the_others_alone(self, rig: Rig) -> None:
        """What others hold and where they are members stays, and the closed one can come back."""
        here, there = rig.here(), await rig.peer()
        group = rig.name("group")
        await there.join(group)
        (mine,) = await here.join(group)
        await here.send(mine, OLD)
        await there.call("close")
        await here.group_send(group, HELLO)
        assert await here.collect(mine, count=2) == [OLD, HELLO]
        (theirs,) = await there.join(group)
        await here.group_send(group, HELLO)
        assert await there.receive(theirs) == HELLO
        await assert_nothing_waits(there, theirs, sender=here)


class ObjectRules:
    """The layer object itself."""

    @blocking_rule()
    def test_constructor_needs_no_loop_and_does_no_io(self, rig: Rig) -> None:
        """get_channel_layer() at import time starts no thread and opens no file."""
        threads, files = set(threading.enumerate()), set(rig.files())
        layers = [rig.layer() for _ in range(5)]
        assert set(threading.enumerate()) <= threads
        assert set(rig.files()) <= files
        assert len(layers) == 5

    @blocking_rule("strict_options")
    def test_unknown_option_is_refused(self, rig: Rig) -> None:
        """A misspelt option is refused when the layer is made, by an error that names it."""
        with pytest.raises(Exception, match="capactiy"):
            rig.unkept_layer(capactiy=5)

    @rule(peers=True)
    async def test_close_frees_everything(self, rig: Rig) -> None:
        """A layer that was used and closed leaves no thread and no file behind."""
        there = await rig.peer()
        await there.new_channel()

        async def use_and_close() -> None:
            here = rig.commands(rig.unkept_layer())
            await self._use(here, there)
            await here.close()

        await self._leaves_nothing(rig, use_and_close)

    @rule("frees_itself", peers=True)
    async def test_dropped_layer_frees_everything(self, rig: Rig) -> None:
        """A layer object that nobody holds any more goes, with its thread and its files, without close()."""
        there = await rig.peer()
        await there.new_channel()

        async def use_and_drop() -> None:
            here = rig.commands(rig.unkept_layer())
            gone = weakref.ref(here.layer)
            await self._use(here, there)
            del here
            await rig.eventually(lambda: collected(gone))

        await self._leaves_nothing(rig, use_and_drop)

    @rule("groups")
    async def test_thousand_idle_receivers_need_no_thread_each(self, rig: Rig) -> None:
        """1,000 receivers wait in one thread more (or what the layer says it has), and each gets its message."""
        here = rig.here()
        most = threading.active_count() + rig.under_test.threads
        channels = await here.join(rig.name("group"), count=1000)
        waiting = [asyncio.ensure_future(here.layer.receive(channel)) for channel in channels]
        await asyncio.sleep(0)
        assert threading.active_count() <= most
        await here.group_send(rig.name("group"), HELLO)
        assert await asyncio.gather(*waiting) == [HELLO] * 1000
        assert threading.active_count() <= most

    async def _leaves_nothing(self, rig: Rig, make_and_free: Callable[[], Awaitable[None]]) -> None:
        threads = set(threading.enumerate())
        # Once before, for what a process keeps for all layers.
        await make_and_free()
        await rig.eventually(lambda: set(threading.enumerate()) <= threads)
        before = rig.files()
        for _ in range(3):
            await make_and_free()
            await rig.eventually(lambda: set(threading.enumerate()) <= threads)
        # Other layers of this process may notice at their next heartbeat only that they need nothing for this one.
        try:
            await rig.eventually(lambda: not _more(rig, before))
        except TimeoutError:
            raise AssertionError(f"more is open than before: {_more(rig, before)}") from None

    async def _use(self, here: Any, there: Any) -> None:
        mine, theirs = await here.new_channel(), await there.new_channel()
        await here.group_add("group", mine)
        await here.group_send("group", HELLO)
        assert await here.receive(mine) == HELLO
        await here.send(theirs, HELLO)
        assert await there.receive(theirs) == HELLO
        await there.send(mine, HELLO)
        assert await here.receive(mine) == HELLO


def _more(rig: Rig, before: dict[str, str]) -> list[str]:
    now, known = list(rig.files().values()), list(before.values())
    if rig.peers_are == "thread":
        # While another layer of this process has the same file open, a library may have to keep it open: closing one
        # descriptor of a file would end all of the process's POSIX locks on it, and SQLite therefore waits.
        now, known = ([target for target in targets if not target.startswith("/")] for targets in (now, known))
    # One in the place of another is no leak: the other layer may have renewed what is its own.
    return [target for target in now if target not in known] if len(now) > len(known) else []


def collected(gone: "weakref.ref[Any]") -> bool:
    """Collect garbage; return whether the object is gone."""
    gc.collect()
    return gone() is None
