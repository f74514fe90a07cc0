"""1,000 receivers that wait: what they cost in processor time, memory and threads."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from trunkbench.crew import Member
from trunkbench.figures import Bench, Figure, Sample, Workload, any_layer, clock
from trunkbench.layer import PATIENCE_SECONDS, Layer, make_message, settle, until_received
from trunkbench.ledger import Ledger
from trunkbench.link import Link
from trunkbench.machine import connection_count, process_seconds, resident_bytes, thread_count

RECEIVERS = 1_000
# Longer than the read timeout that redis-py 8 gives each connection.
WATCHED_SECONDS = 6.0


class Waiters:
    """1,000 tasks, each in receive() on a channel of its own."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self.ledger = Ledger(senders=RECEIVERS)
        self.channels: list[str] = []

    async def make_channels(self) -> None:
        """Before the tasks: pub/sub subscribes here."""
        self.channels = [await self._layer.new_channel() for _ in range(RECEIVERS)]

    async def wait(self, index: int) -> None:
        """One receiver."""
        while True:
            message = await self._layer.receive(self.channels[index])
            self.ledger.note(message["s"], message["n"])

    async def wake_all(self) -> None:
        """Send to each: a receiver that waited long must still receive."""
        for index, channel in enumerate(self.channels):
            await self._layer.send(channel, make_message(index, 0))
        await until_received(self.ledger, RECEIVERS, patience=PATIENCE_SECONDS)


@asynccontextmanager
async def waiting(wait: Callable[[int], Coroutine[Any, Any, object]]) -> AsyncIterator[None]:
    """1,000 plain tasks that wait. No task group: its own share of memory would be counted as the receivers'."""
    tasks = [asyncio.create_task(wait(index)) for index in range(RECEIVERS)]
    # Long enough for every task to reach its wait and for what a first receive() starts to come to rest.
    await asyncio.sleep(0.4)
    gc.collect()
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if not isinstance(outcome, asyncio.CancelledError) and isinstance(outcome, BaseException):
            raise outcome


async def watched(layer: Layer, link: Link, *, seconds: float) -> None:
    """Measure processor time, resident memory and threads."""
    await settle(layer, await layer.new_channel())
    waiters = Waiters(layer)
    gc.collect()
    before = resident_bytes()
    await waiters.make_channels()
    async with waiting(waiters.wait):
        grown = resident_bytes() - before
        link.tell("window_opens")
        busy, started = time.process_time(), clock()
        await asyncio.sleep(seconds)
        share = (time.process_time() - busy) / (clock() - started)
        held = {"threads": float(thread_count()), "connections": connection_count()}
        link.tell("window_closes", cpu=share * 100, rss=grown / RECEIVERS / 1024, **held)
        await waiters.wake_all()
        link.tell("woken", account=waiters.ledger.close([1] * RECEIVERS))


async def traced(layer: Layer, link: Link) -> None:
    """Measure memory by tracemalloc, in a process of its own: tracing costs time and memory."""
    await settle(layer, await layer.new_channel())
    waiters = Waiters(layer)
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    await waiters.make_channels()

    def wait(index: int) -> Coroutine[Any, Any, object]:
        # receive() itself is the task: a coroutine of the benchmark's own around it is no part of the layer's cost.
        return layer.receive(waiters.channels[index])

    async with waiting(wait):
        link.tell("traced", traced=(tracemalloc.get_traced_memory()[0] - before) / RECEIVERS / 1024)


async def bare_tasks(_layer: None, link: Link) -> None:
    """What 1,000 tasks that wait for a future cost without any layer."""

    async def wait(_index: int) -> None:
        while True:
            await asyncio.get_running_loop().create_future()

    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    async with waiting(wait):
        link.tell("traced", traced=(tracemalloc.get_traced_memory()[0] - before) / RECEIVERS / 1024)


def _server_seconds(bench: Bench) -> float | None:
    if "redis" in bench.peer.needs:
        return process_seconds(bench.services.redis.pid)
    if "valkey" in bench.peer.needs:
        return process_seconds(bench.services.valkey.pid)
    if "rabbitmq" in bench.peer.needs:
        return process_seconds(bench.services.rabbitmq.pid)
    if "postgres" in bench.peer.needs:
        # The layer's connections stay, and so do the processes behind them.
        return sum(process_seconds(pid) or 0.0 for pid in bench.services.postgres.process_ids())
    return None


def _watch(bench: Bench, process: Member) -> tuple[dict[str, float], Any]:
    process.expect("window_opens", within=60)
    before, started = _server_seconds(bench), clock()
    figures = process.expect("window_closes", within=60 + WATCHED_SECONDS)
    after = _server_seconds(bench)
    if before is not None and after is not None:
        figures["server_cpu"] = (after - before) / (clock() - started) * 100
    return figures, process.expect("woken", within=60)["account"]


def measure(bench: Bench) -> Sample:
    """Two processes, one after the other."""
    with bench.crew() as crew:
        figures, account = _watch(bench, crew.start(watched, seconds=WATCHED_SECONDS))
        figures |= crew.start(traced).expect("traced", within=60)
        return Sample(figures=figures, account=account, amount=RECEIVERS)


def measure_bare(bench: Bench) -> Sample:
    """One process without a layer."""
    with bench.crew() as crew:
        return Sample(figures=crew.start(bare_tasks).expect("traced", within=60), amount=RECEIVERS)


WORKLOADS = (
    Workload(
        name="idle",
        title="1,000 blocked receivers",
        figures=(
            Figure(name="cpu", title="processor", unit="% of a core", better="lower"),
            Figure(name="traced", title="memory a receiver (tracemalloc)", unit="KiB", better="lower"),
            Figure(name="rss", title="memory a receiver (RSS)", unit="KiB", better="lower"),
            Figure(name="threads", title="threads", unit="", better="lower"),
            Figure(name="connections", title="connections", unit="", better="lower"),
            Figure(name="server_cpu", title="processor of the server", unit="% of a core", better="lower"),
        ),
        measure=measure,
        suits=any_layer,
        series=True,
        variants=True,
        fixed=WATCHED_SECONDS + 3.0,
        factor=0.0,
    ),
)
