"""The part of a channel layer that the workloads call, and the message they send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from trunkbench.peers import import_class

if TYPE_CHECKING:
    from trunkbench.ledger import Ledger

Message = dict[str, Any]
Result = TypeVar("Result")
# How long silence lasts before what is missing counts as lost.
PATIENCE_SECONDS = 3.0
PAYLOAD = "x" * 200


class Layer(Protocol):
    """Channels' own API; every peer has it."""

    async def send(self, channel: str, message: Message) -> None: ...
    async def receive(self, channel: str) -> Message: ...
    async def new_channel(self) -> str: ...
    async def group_add(self, group: str, channel: str) -> None: ...
    async def group_discard(self, group: str, channel: str) -> None: ...
    async def group_send(self, group: str, message: Message) -> None: ...


class BlockingCalls(Protocol):
    """`layer.sync` of a channels-trunk layer."""

    def group_send(self, group: str, message: Message) -> None: ...


class TrunkLayer(Layer, Protocol):
    """A channels-trunk layer."""

    @property
    def sync(self) -> BlockingCalls: ...


def make_layer(backend: str, config: dict[str, Any]) -> Layer:
    """Import the class and make one, as Channels does."""
    return cast("Layer", import_class(backend)(**config))


def make_message(sender: int, number: int, *, payload: str = PAYLOAD) -> Message:
    """The message of all workloads: 200 bytes of payload, if no other is given, and the numbers for the ledger."""
    return {"type": "bench", "s": sender, "n": number, "payload": payload}


async def settle(layer: Layer, channel: str) -> None:
    """Send one message to a channel of this process and receive it.

    A subscription is under way, not done, when redis pub/sub's `new_channel()` or `group_add()` returns. What was asked
    for earlier on the same connection is done when this message comes back. Raises TimeoutError if it does not: pub/sub
    now and then loses one after some ten thousand subscriptions.
    """
    await layer.send(channel, {"type": "bench.settle"})
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await layer.receive(channel)
    except TimeoutError:
        raise TimeoutError("a message to a channel of the same process did not come back") from None


async def collect(layer: Layer, channel: str, *, ledger: Ledger) -> None:
    """Receive for ever and enter each message."""
    receive, note, clock = layer.receive, ledger.note, time.perf_counter
    while True:
        message = await receive(channel)
        note(message["s"], message["n"])
        ledger.last_at = clock()


@asynccontextmanager
async def running(coroutines: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run them as tasks meanwhile. One that fails ends the block, so that an error is never counted as a mere loss."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def unless_silent(work: Coroutine[Any, Any, Result], ledger: Ledger) -> Result:
    """What the work returns, as long as the ledger grows meanwhile; raises TimeoutError when it does not.

    One timer now and then, and none for each message: it would be part of what is measured.
    """
    task, seen = asyncio.create_task(work), -1
    try:
        while not task.done():
            await asyncio.wait([task], timeout=PATIENCE_SECONDS)
            if not task.done() and ledger.received == seen:
                raise TimeoutError
            seen = ledger.received
        return task.result()
    finally:
        task.cancel()


async def until_received(ledger: Ledger, count: int, *, patience: float) -> None:
    """Return when the ledger holds `count` messages, or when nothing more came for `patience` seconds."""
    seen, quiet_since = ledger.received, time.perf_counter()
    while ledger.received < count:
        await asyncio.sleep(0.01)
        now = time.perf_counter()
        if ledger.received != seen:
            seen, quiet_since = ledger.received, now
        elif now - quiet_since > patience:
            return
