"""Rules about event loops and threads: one layer object for all of them."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import async_to_sync, sync_to_async

from channels_trunk.testing.commands import END, in_thread
from channels_trunk.testing.conformance.checks import assert_clean, assert_complete
from channels_trunk.testing.conformance.rules import blocking_rule, rule
from channels_trunk.testing.layer import Layer, Message
from channels_trunk.testing.ledger import numbered
from channels_trunk.testing.rig import Rig

PLENTY = 100_000
HELLO = {"type": "hello"}
PATIENCE = 20
_T = TypeVar("_T")


class LoopRules:
    """Many loops and threads."""

    @blocking_rule("many_loops")
    def test_threads_with_loops_of_their_own(self, rig: Rig) -> None:
        """Six threads, each with its asyncio.run(), use one layer at once, the first use included: each one's
        messages reach each other's channel, once and in order."""
        layer = rig.layer(capacity=PLENTY)
        count, threads = rig.scaled(50), 6
        channels: queue.Queue[tuple[str, str]] = queue.Queue()
        ready = threading.Barrier(threads)
        received: dict[str, list[dict[str, Any]]] = {}

        async def main(name: str) -> None:
            mine = await layer.new_channel()
            channels.put((name, mine))
            ready.wait(rig.seconds(PATIENCE))
            for number in range(count):
                for _, channel in list(channels.queue):
                    await layer.send(channel, numbered(name, number))
            received[name] = [await layer.receive(mine) for _ in range(threads * count)]

        def run(name: str) -> None:
            in_loop(rig, main(name))

        names = [f"thread-{i}" for i in range(threads)]
        run_threads(rig, [partial(run, name) for name in names])
        for name in names:
            assert_clean(received[name], sent=dict.fromkeys(names, count))

    @blocking_rule("many_loops", "groups")
    def test_group_over_several_loops(self, rig: Rig) -> None:
        """A group_send() reaches members whose receivers wait in other loops."""
        layer = rig.layer()
        group = rig.name("group")
        joined = threading.Barrier(5)
        received: list[Any] = []

        async def member() -> None:
            channel = await layer.new_channel()
            await layer.group_add(group, channel)
            waiting = asyncio.ensure_future(layer.receive(channel))
            await asyncio.sleep(0)
            joined.wait(rig.seconds(PATIENCE))
            received.append(await waiting)

        async def sender() -> None:
            await layer.group_send(group, HELLO)

        def send() -> None:
            joined.wait(rig.seconds(PATIENCE))
            in_loop(rig, sender())

        run_threads(rig, [lambda: in_loop(rig, member())] * 4 + [send])
        assert received == [HELLO] * 4

    @blocking_rule("many_loops", "groups")
    def test_async_to_sync_everywhere(self, rig: Rig) -> None:
        """async_to_sync() from plain threads: every method, call after call, as Django views and Celery tasks do."""
        commands = rig.here(capacity=PLENTY)
        layer, group = commands.layer, rig.name("group")

        def view(name: str) -> None:
            channel = async_to_sync(layer.new_channel)()
            async_to_sync(layer.group_add)(group, channel)
            for number in range(10):
                async_to_sync(layer.send)(channel, numbered(name, number))
            got = [async_to_sync(commands.receive)(channel) for _ in range(10)]
            async_to_sync(layer.group_discard)(group, channel)
            assert_clean([message for message in got if message["sender"] == name], sent={name: 10})
            async_to_sync(layer.group_send)(group, numbered("all", 0))

        run_threads(rig, [lambda: view("one")])
        run_threads(rig, [lambda: view("two")])

    @rule("many_loops")
    async def test_async_to_sync_within_a_loops_thread(self, rig: Rig) -> None:
        """sync_to_async() code that calls async_to_sync(send) reaches a receiver of the loop it came from."""
        here = rig.here()
        channel = await here.new_channel()
        waiting = asyncio.ensure_future(here.receive(channel))
        await asyncio.sleep(0)
        await sync_to_async(lambda: async_to_sync(here.layer.send)(channel, HELLO), thread_sensitive=False)()
        assert await waiting == HELLO

    @rule("many_loops", peers=True)
    async def test_loops_that_end_while_others_go_on(self, rig: Rig) -> None:
        """Loops use the layer and end, first of all the one that used it first; another one goes on receiving
        what comes from elsewhere."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        layer = here.layer

        async def visit() -> None:
            channel = await layer.new_channel()
            waiting = asyncio.ensure_future(layer.receive(channel))
            await asyncio.sleep(0)
            await layer.send(channel, HELLO)
            assert await waiting == HELLO

        await in_thread(lambda: in_loop(rig, visit()))
        channel = await here.new_channel()
        for number in range(10):
            waiting = asyncio.ensure_future(here.receive(channel))
            await asyncio.sleep(0)
            await in_thread(lambda: in_loop(rig, visit()))
            await there.send(channel, numbered("there", number))
            assert await waiting == numbered("there", number)

    @rule("many_loops", "groups", peers=True)
    async def test_channel_outlives_the_loop_that_made_it(self, rig: Rig) -> None:
        """A channel of a loop that ended while it waited is read in another loop, and has lost nothing."""
        layer, there = rig.layer(), await rig.peer()
        group = rig.name("group")

        async def begin() -> str:
            channel = await layer.new_channel()
            await layer.group_add(group, channel)
            waiting = asyncio.ensure_future(layer.receive(channel))
            await asyncio.sleep(0)
            assert not waiting.done()
            return channel  # the end of asyncio.run() cancels what waits

        channel = await in_thread(lambda: in_loop(rig, begin()))
        await there.send(channel, HELLO)
        await there.group_send(group, HELLO)
        for _ in range(2):
            assert await in_thread(lambda: in_loop(rig, layer.receive(channel))) == HELLO

    @rule("many_loops", peers=True)
    async def test_messages_while_no_loop_runs(self, rig: Rig) -> None:
        """What comes between two asyncio.run() of a program waits for the second."""
        layer, there = rig.layer(), await rig.peer()
        channel = await in_thread(lambda: in_loop(rig, layer.new_channel()))
        await there.call("flood", channel, count=20, sender="there")
        got = await in_thread(lambda: in_loop(rig, _several(layer, channel, 20)))
        assert_clean(got, sent={"there": 20})

    @rule("many_loops", "cancellation_safe", "normal_channels", peers=True, within=60)
    async def test_cancel_storm_over_several_loops(self, rig: Rig) -> None:
        """Three loops receive from the same channels, cancelled at random: each message goes to one of them, once."""
        here, there = rig.here(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        count = rig.scaled(500)
        for number, channel in enumerate(await rig.each_kind(here)):

            def storm(seed: str, channel: str = channel) -> list[Message]:
                return asyncio.run(here.storm_of_work(channel, seed=seed))

            storms = [partial(storm, f"{rig.seed}/{number}/{i}") for i in range(3)]
            working = [in_thread(work) for work in storms]
            await there.call("flood", channel, count=count, sender="there")
            for _ in storms:
                await there.send(channel, END)
            received = [message for got in await asyncio.gather(*working) for message in got]
            assert_complete(received, sent={"there": count})

    @rule("many_loops", peers=True, within=60)
    async def test_receivers_in_several_loops_at_once(self, rig: Rig) -> None:
        """Four loops wait on channels of one layer, and all get what comes from elsewhere, while one loop after
        another ends."""
        layer, there = rig.layer(capacity=PLENTY), await rig.peer(capacity=PLENTY)
        channels = [await layer.new_channel() for _ in range(4)]

        def reader(channel: str, count: int) -> Callable[[], Any]:
            return lambda: in_loop(rig, _several(layer, channel, count))

        counts = [10, 50, 100, 200]
        reading = [in_thread(reader(channel, count)) for channel, count in zip(channels, counts, strict=True)]
        for channel, count in zip(channels, counts, strict=True):
            await there.call("flood", channel, count=count, sender="there")
        for got, count in zip(await asyncio.gather(*reading), counts, strict=True):
            assert_clean(got, sent={"there": count})


def run_threads(rig: Rig, works: Sequence[Callable[[], Any]]) -> None:
    """Run each in a thread of its own; raise what one of them raised, or TimeoutError if one hangs.

    The time is shorter than in_loop()'s: a loop that is woken by nothing but the end of its own time is one that hangs.
    """
    errors: list[BaseException] = []

    def guarded(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=[work], daemon=True, name="suite-work") for work in works]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + rig.seconds(PATIENCE)
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    hanging = [thread for thread in threads if thread.is_alive()]
    for thread in hanging:
        thread.join(PATIENCE)
    if errors:
        raise errors[0]
    if hanging:
        raise TimeoutError(f"{len(hanging)} threads did not end in time")


def in_loop(rig: Rig, coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in a loop of its own, for a limited time."""

    async def limited() -> _T:
        async with asyncio.timeout(rig.seconds(PATIENCE + 2)):
            return await coroutine

    return asyncio.run(limited())


async def _several(layer: Layer, channel: str, count: int) -> list[dict[str, Any]]:
    return [await layer.receive(channel) for _ in range(count)]
