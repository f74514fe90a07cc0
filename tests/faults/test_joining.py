"""Many joins at once: they share the engine's answers, and each has its own time."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing import eventually, eventually_blocking
from channels_trunk.testing.transports import LoopbackChannelLayer, LoopbackServer, LoopbackTransport
from channels_trunk.transports.base import Transport
from tests.faults.conftest import FaultyLayer, MakeLayer
from tests.plugins.impatience import impatient


async def join_all(layer: FaultyLayer, names: Sequence[str]) -> list[BaseException | None]:
    channel = await layer.new_channel()
    return await asyncio.gather(*(layer.group_add(name, channel) for name in names), return_exceptions=True)


async def test_joins_that_wait_share_an_answer(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    names = [f"g{number}" for number in range(80)]
    channel = await here.new_channel()
    await here.group_add("first", channel)
    hold = here.faults.stall("interest")
    adding = [asyncio.ensure_future(here.group_add(name, channel)) for name in names]
    await eventually(hold.entered.is_set)
    hold.release()
    await asyncio.gather(*adding)
    assert here.faults.calls["interest"] < 10
    for name in names:
        await there.group_send(name, {"type": name})
    assert [(await here.receive(channel))["type"] for _ in names] == names


async def test_a_join_that_fails_tells_all_that_shared_it(make_layer: MakeLayer) -> None:
    here = make_layer()
    channel = await here.new_channel()
    await here.group_add("first", channel)
    here.faults.fail("interest", TransportUnavailable, times=1)
    found = await join_all(here, ["a", "b", "c"])
    assert all(error is None or isinstance(error, TransportUnavailable) for error in found)
    assert await join_all(here, ["a", "b", "c"]) == [None] * 3


class AnswerlessTransport(LoopbackTransport):
    """Does what interest() asks for, and loses the answer when it is told to."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.loses_answer = False

    async def interest(self, groups: frozenset[str]) -> None:
        await super().interest(groups)
        if self.loses_answer:
            self.loses_answer = False
            raise TransportUnavailable("the answer was lost")


class AnswerlessLayer(LoopbackChannelLayer):
    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return AnswerlessTransport(values["prefix"])


async def test_a_group_that_is_joined_again_is_heard_whatever_became_of_the_round_before(prefix: str) -> None:
    """The engine no longer listens to it for this node, and nobody here was told so."""
    here, there = AnswerlessLayer(prefix=prefix), AnswerlessLayer(prefix=prefix)
    transport = cast(AnswerlessTransport, here._hub.transport)
    try:
        channel = await here.new_channel()
        await here.group_add("kept", channel)
        await here.group_add("group", channel)
        await here.group_discard("group", channel)
        transport.loses_answer = True
        here._hub.on_io(here._hub.sweep)
        await eventually(lambda: not transport.loses_answer)
        await here.group_add("group", channel)
        await there.group_send("group", {"type": "hello"})
        async with asyncio.timeout(20):
            assert await here.receive(channel) == {"type": "hello"}
    finally:
        await here.close()
        await there.close()


async def test_joins_end_when_their_time_is_over(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    channel = await here.new_channel()
    server.hang()
    with impatient(here, 0.3):
        joins = [here.group_add(f"g{n}", channel) for n in range(20)]
        found = await asyncio.gather(*joins, return_exceptions=True)
    for error in found:
        assert isinstance(error, TransportUnavailable)
        assert "within send_timeout=0.3 s" in str(error)
    server.release()
    await eventually(lambda: here.health().state == "ok")
    assert await join_all(here, ["a"]) == [None]


async def test_joins_end_with_the_layer(make_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_layer()
    channel = await here.new_channel()
    server.hang()
    adding = [asyncio.ensure_future(here.group_add(f"g{number}", channel)) for number in range(20)]
    await asyncio.sleep(0)
    await here.close()
    for error in await asyncio.gather(*adding, return_exceptions=True):
        assert isinstance(error, TransportUnavailable)
    server.release()
    assert await join_all(here, ["a", "b"]) == [None, None]


async def test_joins_after_close_do_not_wait_for_the_thread_before(
    make_layer: MakeLayer, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have told that the layer is closed, and then not have the processor for a while."""
    here = make_layer()
    channel = await here.new_channel()
    joining = here._hub.joining
    goes_on = joining._next
    closed = threading.Event()

    def go_on_late(*args: Any) -> Any:
        if closed.is_set() and not joining._waiting:
            closed.clear()
            with contextlib.suppress(TimeoutError):
                eventually_blocking(lambda: joining._waiting, within=0.5)
        return goes_on(*args)

    monkeypatch.setattr(joining, "_next", go_on_late)
    server.hang()
    adding = asyncio.ensure_future(here.group_add("before", channel))
    await asyncio.sleep(0)
    closed.set()
    await here.close()
    with pytest.raises(TransportUnavailable, match="closed"):
        await adding
    server.release()
    assert await join_all(here, ["a", "b"]) == [None, None]


@pytest.mark.parametrize("many", [1, 50])
def test_threads_join(make_sync_layer: MakeLayer, many: int) -> None:
    here = make_sync_layer()
    channel = here.sync.new_channel()
    for number in range(many):
        here.sync.group_add(f"g{number}", channel)
    here.sync.group_send(f"g{many - 1}", {"type": "x"})
    assert here.sync.receive(channel, timeout=20) == {"type": "x"}
