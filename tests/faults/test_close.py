"""Guarantee 12: close() at the worst moments, and what is left after it."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest
from channels.exceptions import ChannelFull

from channels_trunk.envelope import Control, ControlOp, Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.health import State
from channels_trunk.layers import MemoryChannelLayer
from channels_trunk.testing import eventually, eventually_blocking
from channels_trunk.testing.transports import LoopbackServer, LoopbackTransport

from .conftest import FaultyLayer, MakeLayer

HELLO = {"type": "hello"}
MARK = {"type": "mark"}


def hub_threads() -> Iterator[threading.Thread]:
    return (thread for thread in threading.enumerate() if thread.name.startswith("channels-trunk-"))


async def test_close_sends_what_is_in_flight_and_what_is_behind(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    await here.new_channel()
    hold = here.faults.stall("publish")
    sends = [asyncio.ensure_future(here.send(channel, {"type": "n", "n": 0}))]
    await eventually(hold.entered.is_set)
    sends += [asyncio.ensure_future(here.send(channel, {"type": "n", "n": number})) for number in range(1, 20)]
    await eventually(lambda: here.stats().outbox_current == 19)
    closing = asyncio.ensure_future(here.close())
    await asyncio.sleep(0)
    hold.release()
    await closing
    await asyncio.gather(*sends)
    assert [(await there.receive(channel))["n"] for _ in range(20)] == list(range(20))


def test_close_sends_what_a_loop_left_behind_that_ended(make_sync_layer: MakeLayer) -> None:
    here, there = make_sync_layer(), make_sync_layer()
    channel = there.sync.new_channel()
    here.sync.new_channel()
    loop = asyncio.new_event_loop()
    sending: list[asyncio.Task[None]] = []

    async def begin() -> None:
        # Its first step is in the loop's last turn, at whose end there is no other.
        sending.append(asyncio.create_task(here.send(channel, HELLO)))

    loop.run_until_complete(begin())
    here.sync.close()
    assert there.sync.receive(channel, timeout=20) == HELLO
    sending.pop().cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


async def test_close_while_away_fails_what_is_pending(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    await here.new_channel()
    server.stop()
    await eventually(lambda: here.health().state is State.AWAY)
    sends = [asyncio.ensure_future(here.send("jobs", HELLO)) for _ in range(3)]
    sends.append(asyncio.ensure_future(here.group_add("group", "jobs")))
    await eventually(lambda: here.stats().outbox_current == 3)
    await here.close()
    for outcome in await asyncio.gather(*sends, return_exceptions=True):
        assert isinstance(outcome, TransportUnavailable)
    assert here.health().state is State.CLOSED
    server.start()
    await here.send("jobs", MARK)
    assert await here.receive("jobs") == MARK


@pytest.mark.parametrize("method", ["open", "interest", "maintain", "claim", "publish"])
async def test_close_while_the_engine_hangs(make_layer: MakeLayer, method: str) -> None:
    here = make_layer()
    hold = here.faults.stall(method, times=10)
    calls = [asyncio.ensure_future(here.new_channel()), asyncio.ensure_future(here.send("jobs", HELLO))]
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(hold.entered.is_set)
    async with asyncio.timeout(20):
        await here.close()
    await asyncio.wait(calls, timeout=20)
    assert all(call.done() for call in calls)
    await asyncio.gather(*calls, return_exceptions=True)
    here.faults.heal()
    hold.release()
    if not receiving.done():
        await here.send("jobs", MARK)
    assert await receiving in (HELLO, MARK)


async def test_close_that_hangs_in_the_transport_ends(make_layer: MakeLayer) -> None:
    here = make_layer()
    await here.new_channel()
    hold = here.faults.stall("close")
    async with asyncio.timeout(20):
        await here.close()
    hold.release()
    assert here.health().state is State.CLOSED


async def test_close_twice_at_once_and_again(make_layer: MakeLayer) -> None:
    here = make_layer()
    await here.new_channel()
    await asyncio.gather(*(here.close() for _ in range(5)))
    await here.close()
    assert not [thread for thread in hub_threads() if here.stats().node in thread.name and not ended(thread)]


def ended(thread: threading.Thread) -> bool:
    thread.join(20)
    return not thread.is_alive()


def test_close_from_several_loops_and_threads(make_sync_layer: MakeLayer) -> None:
    here = make_sync_layer()
    here.sync.new_channel()
    start = threading.Barrier(6)

    def close_in_loop() -> None:
        start.wait(20)
        asyncio.run(here.close())

    def close_in_thread() -> None:
        start.wait(20)
        here.sync.close()

    threads = [threading.Thread(target=target) for target in [close_in_loop, close_in_thread] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    here.sync.send("jobs", HELLO)
    assert here.sync.receive("jobs", timeout=20) == HELLO


def have_done(done: list[int], turns: int) -> bool:
    return min(done) >= turns


@pytest.mark.parametrize("make", [FaultyLayer, MemoryChannelLayer])
def test_calls_that_race_with_close_always_return(prefix: str, make: Callable[..., FaultyLayer]) -> None:
    """Each is done, or raises TransportUnavailable: no waiter is forgotten by a thread that ends."""
    here = make(prefix=prefix, send_timeout=5.0)
    stop = threading.Event()
    done = [0] * 4

    def repeat(number: int, call: Callable[[], object]) -> None:
        while not stop.is_set():
            with suppress(TransportUnavailable, ChannelFull):
                call()
            done[number] += 1

    calls: list[Callable[[], object]] = [
        lambda: here.sync.send("jobs", HELLO),
        lambda: here.sync.group_add("group", "jobs"),
        lambda: here.sync.new_channel(),
        lambda: asyncio.run(here.group_send("group", HELLO)),
    ]
    threads = [threading.Thread(target=repeat, args=(number, call)) for number, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for turn in range(40):
        eventually_blocking(partial(have_done, done, turn), within=30)
        here.sync.close()
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a call never returned"
    here.sync.close()


async def test_receiver_goes_on_waiting_across_close(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    mine = await here.new_channel()
    waiting = [asyncio.ensure_future(here.receive(channel)) for channel in (mine, "jobs")]
    await eventually(lambda: here.stats().channels_current == 2)
    await here.close()
    assert not any(task.done() for task in waiting)
    await here.new_channel()
    await there.send(mine, HELLO)
    await there.send("jobs", HELLO)
    assert await asyncio.gather(*waiting) == [HELLO, HELLO]


async def test_close_drops_messages_and_memberships_of_this_process(make_layer: MakeLayer) -> None:
    here = make_layer()
    mine = await here.new_channel()
    await here.group_add("group", mine)
    await here.send(mine, HELLO)
    await here.close()
    await here.group_send("group", HELLO)
    await here.send(mine, MARK)
    assert await here.receive(mine) == MARK


async def test_claimed_message_whose_receiver_is_gone_goes_back_at_close(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    await there.new_channel()
    restoring = here.faults.stall("restore")
    hold = here.faults.stall("claim")
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(hold.entered.is_set)
    await there.send("jobs", HELLO)
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    hold.release()
    await eventually(restoring.entered.is_set)
    closing = asyncio.ensure_future(here.close())
    await asyncio.sleep(0)
    restoring.release()
    await closing
    assert await there.receive("jobs") == HELLO


async def test_woken_receiver_gets_its_message_though_the_layer_is_closed(make_layer: MakeLayer) -> None:
    """What was taken out of the engine for it is nowhere else."""
    here = make_layer()
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(lambda: here.faults.calls["claim"] >= 1)
    # The loop of the receiver does not turn from here on: it would take the message before the layer is closed.
    here.sync.send("jobs", HELLO)
    box = here._hub.router.boxes["jobs"]
    eventually_blocking(lambda: box.signalled == 1)
    eventually_blocking(lambda: here._hub.stop() is None and here._hub.is_idle)
    here._hub._drop_everything()
    assert await receiving == HELLO


async def test_controls_that_come_after_close_open_nothing(make_layer: MakeLayer) -> None:
    """Another node's thread may still be delivering when the layer is closed: it must not come back to life."""
    here = make_layer()
    await here.new_channel()
    context = here.faults.context
    assert context is not None
    await here.close()
    for op in ControlOp:
        control = Control(op, "tk" + "a" * 16, 1, f"x.{context.node}!1", "group", 1)
        envelope = Envelope(Kind.CONTROL, context.node, 2e12, context.codec.pack_control(control))
        context.sink.received([envelope])
    context.sink.available(["jobs"])
    context.sink.gap("late")
    context.sink.maintain_soon()
    assert here._hub.is_idle
    assert here.health().state is State.CLOSED


async def test_malformed_control_does_not_stop_the_reader(make_layer: MakeLayer) -> None:
    here = make_layer()
    mine = await here.new_channel()
    context = here.faults.context
    assert context is not None
    bodies = [
        context.codec.pack_control(Control(ControlOp.JOIN, "tk" + "a" * 16, 1, "no name!!", "group")),
        context.codec.pack_control(Control(99, "tk" + "a" * 16)),
        b"\xc1",
    ]
    context.sink.received([Envelope(Kind.CONTROL, context.node, 2e12, body) for body in bodies])
    await eventually(lambda: here.stats().skipped_frames_total == 3)
    await make_layer().send(mine, HELLO)
    assert await here.receive(mine) == HELLO


# --- what is left; the leak check of every test looks at threads, files and tasks as well


async def test_many_layers_opened_and_closed(make_layer: MakeLayer) -> None:
    layers = [make_layer() for _ in range(20)]
    for _ in range(3):
        channels = await asyncio.gather(*(layer.new_channel() for layer in layers))
        await asyncio.gather(*(layers[-1].send(channel, HELLO) for channel in channels))
        assert await asyncio.gather(*map(FaultyLayer.receive, layers, channels)) == [HELLO] * 20
        await asyncio.gather(*(layer.close() for layer in layers))
    await eventually(lambda: not list(hub_threads()))


async def test_dropped_layer_leaves_the_server(prefix: str, server: LoopbackServer) -> None:
    layer = FaultyLayer(prefix=prefix)
    await layer.new_channel()
    await layer.send("jobs", HELLO)
    gone = weakref.ref(layer._hub)
    assert server.nodes()
    del layer

    def collected() -> bool:
        gc.collect()
        return gone() is None

    await eventually(lambda: not server.nodes())
    await eventually(collected)
    await eventually(lambda: not list(hub_threads()))


async def test_layer_dropped_while_away_ends_its_thread(prefix: str, server: LoopbackServer) -> None:
    layer = FaultyLayer(prefix=prefix, send_timeout=0.1)
    server.stop()
    with pytest.raises(TransportUnavailable):
        await layer.new_channel()
    del layer

    def ended_all() -> bool:
        gc.collect()
        return not list(hub_threads())

    await eventually(ended_all)


def test_transport_that_was_never_opened_can_be_closed(prefix: str) -> None:
    asyncio.run(LoopbackTransport(prefix).close(leave=True))
