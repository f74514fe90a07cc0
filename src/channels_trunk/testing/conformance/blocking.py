"""Rules about `layer.sync`: the whole API as plain blocking calls."""

import asyncio
import inspect
import threading
import time
from functools import partial
from typing import Any

import pytest
from channels.exceptions import ChannelFull

from channels_trunk.testing.commands import END, in_thread
from channels_trunk.testing.conformance.checks import MARK, assert_clean, assert_complete, assert_nothing_waits
from channels_trunk.testing.conformance.loops import run_threads
from channels_trunk.testing.conformance.rules import blocking_rule, rule
from channels_trunk.testing.layer import Layer, Message
from channels_trunk.testing.ledger import numbered
from channels_trunk.testing.rig import Rig

PLENTY = 100_000
HELLO = {"type": "hello"}
METHODS = ("send", "receive", "new_channel", "group_add", "group_discard", "group_send", "flush", "close")


class SyncRules:
    """`layer.sync`."""

    @blocking_rule("sync_api", "groups", "flush")
    def test_whole_api_in_a_plain_thread(self, rig: Rig) -> None:
        """Each method does what its namesake does, and returns when it is done."""
        sync = rig.layer().sync
        channel = sync.new_channel()
        assert sync.new_channel("prefix").startswith("prefix")
        sync.send(channel, HELLO)
        assert sync.receive(channel, timeout=rig.seconds(10)) == HELLO
        sync.group_add("group", channel)
        sync.group_send("group", HELLO)
        assert sync.receive(channel, timeout=rig.seconds(10)) == HELLO
        sync.group_discard("group", channel)
        sync.group_send("group", {"type": "missed"})
        sync.send(channel, {"type": "old"})
        sync.flush()
        sync.send(channel, MARK)
        assert sync.receive(channel, timeout=rig.seconds(10)) == MARK
        sync.close()
        channel = sync.new_channel()
        sync.send(channel, HELLO)
        assert sync.receive(channel, timeout=rig.seconds(10)) == HELLO

    @blocking_rule("sync_api")
    def test_methods_take_what_their_namesakes_take(self, rig: Rig) -> None:
        """The same parameters; receive() has a timeout beside."""
        layer = rig.layer()
        for name in METHODS:
            expected = list(inspect.signature(getattr(layer, name)).parameters)
            found = list(inspect.signature(getattr(layer.sync, name)).parameters)
            assert [parameter for parameter in found if parameter != "timeout"] == expected, name
        assert "timeout" in inspect.signature(layer.sync.receive).parameters

    @blocking_rule("sync_api")
    def test_receive_raises_timeout_error(self, rig: Rig) -> None:
        """receive(timeout=...) raises TimeoutError when nothing came, and takes nothing from the next one."""
        sync = rig.layer().sync
        for channel in (sync.new_channel(), rig.name("normal")):
            for timeout in (0, 0.01):
                with pytest.raises(TimeoutError):
                    sync.receive(channel, timeout=timeout)
            sync.send(channel, HELLO)
            assert sync.receive(channel, timeout=rig.seconds(10)) == HELLO

    @blocking_rule("sync_api", "capacity", "groups")
    def test_errors_are_those_of_the_namesakes(self, rig: Rig) -> None:
        """ChannelFull, and TypeError for bad names and messages."""
        sync = rig.layer(capacity=1).sync
        channel = sync.new_channel()
        sync.send(channel, HELLO)
        with pytest.raises(ChannelFull):
            sync.send(channel, HELLO)
        with pytest.raises(TypeError):
            sync.send("bad name", HELLO)
        with pytest.raises(TypeError):
            sync.receive("bad name", timeout=1)
        with pytest.raises(TypeError):
            sync.group_send("bad!group", HELLO)
        with pytest.raises(TypeError, match=r"list.*0"):
            sync.send(channel, {"type": "bad", "list": [object()]})

    @blocking_rule("sync_api")
    def test_many_threads_at_once(self, rig: Rig) -> None:
        """Eight threads send and one receives: each one's messages come once and in order; so in a normal channel."""
        layer = rig.layer(capacity=PLENTY)
        count = rig.scaled(100)
        names = [f"thread-{i}" for i in range(8)]
        for channel in (layer.sync.new_channel(), rig.name("normal")):
            received: list[Any] = []

            def send(name: str, channel: str = channel) -> None:
                for number in range(count):
                    layer.sync.send(channel, numbered(name, number))

            def receive(channel: str = channel, received: list[Any] = received) -> None:
                received.extend(layer.sync.receive(channel, timeout=rig.seconds(10)) for _ in range(8 * count))

            run_threads(rig, [receive, *(partial(send, name) for name in names)])
            assert_clean(received, sent=dict.fromkeys(names, count))

    @rule("sync_api", "normal_channels", "cancellation_safe", peers=True, within=60)
    async def test_threads_and_tasks_share_a_channel(self, rig: Rig) -> None:
        """Threads with short timeouts and tasks that are cancelled receive from one channel: each message once."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        count = rig.scaled(500)
        for number, channel in enumerate(await rig.each_kind(here)):
            working = [here.storm_of_work(channel, seed=f"{rig.seed}/{number}/{i}") for i in range(2)]
            threads = [in_thread(partial(_work_in_snatches, here.layer, channel, rig.seconds(20))) for _ in range(2)]
            storms = asyncio.gather(*working, *threads)
            await there.call("flood", channel, count=count, sender="there")
            for _ in range(4):
                await there.send(channel, END)
            received = [message for got in await storms for message in got]
            assert_complete(received, sent={"there": count})
            await assert_nothing_waits(here, channel)

    @rule("sync_api", "groups", peers=True)
    async def test_blocking_and_asynchronous_calls_mix(self, rig: Rig) -> None:
        """A plain thread reaches receivers of this loop and of other nodes, and is reached by them."""
        here, there = rig.here(), await rig.peer()
        group = rig.name("group")
        (mine,), (theirs,) = await here.join(group), await there.join(group)
        sync = here.layer.sync
        waiting = [asyncio.ensure_future(here.receive(mine)), there.start("receive", theirs)]
        await asyncio.sleep(0)
        await in_thread(lambda: sync.group_send(group, HELLO))
        assert await asyncio.gather(*waiting) == [HELLO, HELLO]
        blocked = in_thread(lambda: sync.receive(mine, timeout=rig.seconds(10)))
        await there.send(mine, HELLO)
        assert await blocked == HELLO
        await there.call("call_sync", "send", mine, HELLO)
        assert await here.receive(mine) == HELLO
        blocked = there.start("call_sync", "receive", theirs, timeout=rig.seconds(10))
        await here.send(theirs, HELLO)
        assert await blocked == HELLO

    @rule("sync_api", "groups", peers=True)
    async def test_blocking_sender_keeps_its_order(self, rig: Rig) -> None:
        """What one plain thread sends to another node, to a channel and to its group in turn, comes in that order."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        group = rig.name("group")
        (theirs,) = await there.join(group)
        count = rig.scaled(200)

        def send() -> None:
            for number in range(0, 2 * count, 2):
                here.layer.sync.send(theirs, numbered("thread", number))
                here.layer.sync.group_send(group, numbered("thread", number + 1))

        await in_thread(send)
        assert_clean(await there.collect(theirs, count=2 * count), sent={"thread": 2 * count})

    @rule("sync_api")
    async def test_blocking_calls_refuse_to_hold_up_a_loop(self, rig: Rig) -> None:
        """receive(), flush() and close() raise RuntimeError in a loop's thread: they would wait for that very loop."""
        sync = rig.layer().sync
        channel = sync.new_channel()
        sync.send(channel, HELLO)
        for call in (partial(sync.receive, channel, timeout=1), sync.flush, sync.close):
            with pytest.raises(RuntimeError, match="loop"):
                call()

    @blocking_rule("sync_api", "groups")
    def test_call_opens_nothing(self, rig: Rig) -> None:
        """After the first call, a hundred more make no thread and open no file."""
        layer = rig.layer()
        layer.sync.group_send(rig.name("group"), HELLO)
        layer.sync.send(rig.name("normal"), HELLO)
        threads, files = threading.active_count(), rig.files()
        for _ in range(50):
            layer.sync.group_send(rig.name("group"), HELLO)
            layer.sync.send(rig.name("normal"), HELLO)
            assert threading.active_count() <= threads
        assert not set(rig.files()) - set(files)


def _work_in_snatches(layer: Layer, channel: str, within: float) -> list[Message]:
    got: list[Message] = []
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            message = layer.sync.receive(channel, timeout=0.0005)
        except TimeoutError:
            continue
        if message == END:
            break
        got.append(message)
    return got
