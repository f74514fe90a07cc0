"""A call that is cancelled at any point: what it was doing is done or not done, and nobody else is harmed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing import audit, eventually, eventually_blocking, numbered
from channels_trunk.testing.transports import LoopbackServer
from channels_trunk.transports.base import Busy
from tests.plugins.impatience import impatient

from .conftest import MakeLayer

HELLO = {"type": "hello"}
MARK = {"type": "mark"}
POINTS = 40


async def cancel_after(task: "asyncio.Task[object]", turns: int) -> None:
    """Cancel a task after some turns of its loop, and wait for its end."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("kind", ["own", "other", "normal", "group"])
async def test_send_cancelled_at_every_point(make_layer: MakeLayer, kind: str) -> None:
    """Each message comes once or not at all, in order; what others send is not touched."""
    here, there = make_layer(capacity=10_000), make_layer(capacity=10_000)
    channels = {"own": await here.new_channel(), "other": await there.new_channel(), "normal": "jobs"}
    channel = channels.get(kind, channels["other"])
    await there.group_add("group", channels["other"])
    reader = here if kind == "own" else there
    sure: set[int] = set()
    for number in range(2 * POINTS):
        message = numbered("here", number)
        call = here.group_send("group", message) if kind == "group" else here.send(channel, message)
        task: asyncio.Task[object] = asyncio.ensure_future(call)
        if number % 2:
            await cancel_after(task, number // 2)
        else:
            await task
        if not task.cancelled():
            sure.add(number)
    await here.send(channel, MARK)
    received = []
    while (message := await reader.receive(channel)) != MARK:
        received.append(message)
    result = audit(received, sent={"here": 2 * POINTS})
    assert (result.repeated, result.disordered) == ((), ())
    assert sure <= {message["number"] for message in received}


async def test_receive_of_a_normal_channel_cancelled_at_every_point(make_layer: MakeLayer) -> None:
    """What a cancelled receiver had claimed goes back to the front of the queue; who claims meanwhile gets the next."""
    here, there = make_layer(), make_layer()
    await there.new_channel()
    for turns in range(POINTS):
        await there.send("jobs", {"type": "n", "n": turns})
        await there.send("jobs", {"type": "n", "n": -turns})
        task: asyncio.Task[object] = asyncio.ensure_future(here.receive("jobs"))
        await cancel_after(task, turns)
        expected = [turns, -turns]
        if not task.cancelled():
            expected.remove(task.result()["n"])  # type: ignore[index]
        async with asyncio.timeout(20):
            assert sorted([(await there.receive("jobs"))["n"] for _ in expected]) == sorted(expected)


async def test_what_several_receivers_were_woken_for_goes_back_in_order(
    make_layer: MakeLayer, server: LoopbackServer
) -> None:
    here, there = make_layer(), make_layer()
    tasks = [asyncio.ensure_future(here.receive("jobs")) for _ in range(3)]
    await eventually(lambda: here.faults.calls["watch"] >= 1)
    here.faults.fail("restore", Busy)  # so that more than one may go back at the second attempt
    # The loop of the receivers does not turn from here on: they would take the messages before they are cancelled.
    for number in range(3):
        there.sync.send("jobs", {"type": "n", "n": number})
    box = here._hub.router.boxes["jobs"]
    eventually_blocking(lambda: box.signalled == 3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # Not before: whoever receives elsewhere meanwhile has what is back already.
    await eventually(lambda: len(server._queues.get("jobs", ())) == 3)
    async with asyncio.timeout(20):
        assert [(await there.receive("jobs"))["n"] for _ in range(3)] == [0, 1, 2]


async def test_receive_cancelled_while_the_connection_flaps(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here, there = make_layer(), make_layer()
    await there.new_channel()
    received: list[int] = []
    for number in range(30):
        await there.send("jobs", {"type": "n", "n": number})
        task: asyncio.Task[object] = asyncio.ensure_future(here.receive("jobs"))
        if number % 5 == 0:
            server.drop_connections()
        await cancel_after(task, number)
        if not task.cancelled():
            received.append(task.result()["n"])  # type: ignore[index]
    while len(received) < 30:
        async with asyncio.timeout(20):
            received.append((await here.receive("jobs"))["n"])
    assert sorted(received) == list(range(30))


@pytest.mark.parametrize("call", ["new_channel", "group_add", "group_add_normal", "group_add_other", "flush", "close"])
async def test_other_calls_cancelled_at_every_point(make_layer: MakeLayer, call: str) -> None:
    here, there = make_layer(), make_layer()
    mine, theirs = await here.new_channel(), await there.new_channel()
    calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "new_channel": lambda: here.new_channel(),
        "group_add": lambda: here.group_add("group", mine),
        "group_add_normal": lambda: here.group_add("group", "jobs"),
        "group_add_other": lambda: here.group_add("group", theirs),
        "flush": lambda: here.flush(),
        "close": lambda: here.close(),
    }
    for turns in range(0, POINTS, 2):
        await cancel_after(asyncio.ensure_future(calls[call]()), turns)
    await calls[call]()
    await here.group_add("other", mine)
    await there.group_send("other", HELLO)
    assert await here.receive(mine) == HELLO


async def test_cancelled_sends_do_not_pile_up_while_away(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    await here.new_channel()
    server.stop()
    await eventually(lambda: here.health().state == "away")
    with impatient(here, 0.3):
        for _ in range(50):
            await cancel_after(asyncio.ensure_future(here.send("jobs", HELLO)), 1)
            await cancel_after(asyncio.ensure_future(here.group_add("group", "jobs")), 1)
    await eventually(lambda: here.stats().outbox_current == 0)
    await eventually(lambda: not here._hub.driver._opening)
    server.start()
    await eventually(lambda: here.health().state == "ok")
    await here.send("jobs", MARK)
    assert await here.receive("jobs") == MARK


async def test_timeout_around_send_is_the_callers(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer(send_timeout=30)
    server.stop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await here.send("jobs", HELLO)
    with pytest.raises(TransportUnavailable):
        await make_layer(send_timeout=0.1).send("jobs", HELLO)
