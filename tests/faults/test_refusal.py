"""An engine that refuses for a reason only a person can mend: everyone who waits is told, and the next call tries."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from channels_trunk.exceptions import ChannelLayerError, SchemaMismatch
from channels_trunk.health import State
from channels_trunk.testing import eventually, eventually_blocking
from channels_trunk.testing.transports import LoopbackServer

from .conftest import FaultyLayer, MakeLayer

HELLO = {"type": "hello"}


def mismatch() -> SchemaMismatch:
    return SchemaMismatch("the tables are newer")


CALLS: dict[str, Callable[[FaultyLayer], object]] = {
    "send": lambda layer: layer.send("jobs", HELLO),
    "group_send": lambda layer: layer.group_send("group", HELLO),
    "new_channel": lambda layer: layer.new_channel(),
    "group_add": lambda layer: layer.group_add("group", layer._hub.new_channel("mine")),
    "group_add_normal": lambda layer: layer.group_add("group", "jobs"),
    "group_discard": lambda layer: layer.group_discard("group", "jobs"),
    "receive": lambda layer: layer.receive("jobs"),
    "receive_own": lambda layer: layer.receive(layer._hub.new_channel("mine")),
    "flush": lambda layer: layer.flush(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_each_call_is_told(make_layer: MakeLayer, server: LoopbackServer, call: str) -> None:
    here = make_layer()
    server.refuse(mismatch)
    for _ in range(2):
        with pytest.raises(SchemaMismatch, match="the tables are newer"):
            await CALLS[call](here)  # type: ignore[misc]
    await eventually(lambda: here.health().state is State.FAILED)
    assert here.health().detail == "the tables are newer"


async def test_everyone_who_waits_is_told_and_the_next_call_tries_again(
    make_layer: MakeLayer, server: LoopbackServer
) -> None:
    here = make_layer()
    mine = await here.new_channel()
    waiting: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(call)
        for call in (here.receive(mine), here.receive("jobs"), here.receive("jobs"), here.receive("other"))
    ]
    await eventually(lambda: here.stats().channels_current == 3)
    opening = here.faults.stall("open")
    server.refuse(mismatch)
    server.drop_connections()
    await eventually(opening.entered.is_set)
    waiting += [asyncio.ensure_future(call) for call in (here.send("jobs", HELLO), here.group_add("group", "jobs"))]
    await eventually(lambda: here.stats().outbox_current == 1)
    opening.release()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [SchemaMismatch] * 6
    assert len(set(map(id, outcomes))) == 6, "each needs a traceback of its own"
    server.refuse(None)
    await here.send("jobs", HELLO)
    assert await here.receive("jobs") == HELLO
    await here.send(mine, HELLO)
    assert await here.receive(mine) == HELLO
    assert here.health().state is State.OK


def test_plain_threads_are_told(make_sync_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_sync_layer()
    mine = here.sync.new_channel()
    errors: list[BaseException] = []

    def receive() -> None:
        try:
            here.sync.receive(mine)
        except ChannelLayerError as error:
            errors.append(error)

    threads = [threading.Thread(target=receive) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually_blocking(lambda: (box := here._hub.router.boxes.get(mine)) is not None and box.waiting() == 3)
    server.refuse(mismatch)
    server.drop_connections()
    for thread in threads:
        thread.join(20)
    assert [type(error) for error in errors] == [SchemaMismatch] * 3


async def test_unexpected_error_at_open_is_told_with_its_cause(make_layer: MakeLayer) -> None:
    here = make_layer()
    here.faults.fail("open", lambda: ValueError("a bug"))
    with pytest.raises(ChannelLayerError, match="ValueError: a bug"):
        await here.new_channel()
    await here.new_channel()


async def test_unexpected_error_at_close_leaks_nothing(make_layer: MakeLayer) -> None:
    here = make_layer()
    await here.new_channel()
    here.faults.fail("close", lambda: ValueError("a bug"))
    await here.close()
    assert here.health().state is State.CLOSED


async def test_memberships_survive_a_refusal(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here, there = make_layer(), make_layer()
    mine = await here.new_channel()
    await here.group_add("group", mine)
    server.refuse(mismatch)
    server.drop_connections()
    await eventually(lambda: here.health().state is State.FAILED)
    server.refuse(None)
    await here.new_channel()
    await there.group_send("group", HELLO)
    assert await here.receive(mine) == HELLO
