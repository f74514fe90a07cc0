"""What a workload is, what it yields, and how its length is found."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from trunkbench.crew import Crew
from trunkbench.ledger import Account
from trunkbench.peers import BARE, Peer
from trunkbench.services import Services

# A batch that took so many times the wanted length is the measurement, though it was the first: who is so slow is not
# made wait for again.
LONG_ENOUGH = 4


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number that a workload yields."""

    name: str
    title: str
    unit: str
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The outcome of one measurement: figures with their ledger, or the error that prevented them."""

    figures: dict[str, float] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    amount: int = 0
    error: str | None = None
    note: str | None = None
    """What a reader must know of these figures, such as that the layer fell behind."""
    took: float = 0.0
    """Seconds of the whole measurement, with the start and the end of its processes."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What one measurement works with."""

    peer: Peer
    services: Services
    run_id: str
    seconds: float

    @contextmanager
    def crew(self) -> Iterator[Crew]:
        """The processes of this measurement; their files go when they are gone."""
        config = self.peer.config(self.services, self.run_id)
        try:
            with Crew(self.peer, config, log=self.services.directory / f"{self.run_id}.log") as crew:
                yield crew
        finally:
            self.services.clear_run(self.run_id)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One row of the report: `measure` runs it once for one peer."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    measure: Callable[[Bench], Sample]
    suits: Callable[[Peer], bool]
    series: bool = False
    """Whether it is a point of a curve or a detail: measured in one round, and not by --quick."""
    variants: bool = False
    """Whether it is measured with variants of a peer, too, such as another version of its client."""
    needs: str = ""
    """The server of a workload that has no layer."""
    fixed: float = 0.55
    """About the seconds that one measurement takes beside those asked for."""
    factor: float = 1.6
    """About the seconds that one measurement takes for each one asked for."""


def crosses_processes(peer: Peer) -> bool:
    """For workloads that need several processes."""
    return peer.crosses_processes


def has_normal_channels(peer: Peer) -> bool:
    """For workloads on a worker channel."""
    return peer.crosses_processes and peer.normal_channels


def works_on_any_loop(peer: Peer) -> bool:
    """For workloads whose callers have no event loop of their own."""
    return peer is not BARE and peer.any_loop


def any_layer(peer: Peer) -> bool:
    """For workloads that run within one process as well."""
    return peer is not BARE


def bare_machine(peer: Peer) -> bool:
    """For workloads that use no layer."""
    return peer is BARE


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many calls make a batch of the wanted length, found by growing batches; these warm everything up as well."""

    first: int
    limit: int
    seconds: float

    def measure(self, batch: Callable[[int], float]) -> tuple[int, float]:
        """Run batches until one is long enough to judge by, then one of the wanted length: its count and seconds."""
        count, took = self.first, batch(self.first)
        while (larger := self._next(count, took)) is not None:
            count, took = larger, batch(larger)
        if took > self.seconds * LONG_ENOUGH:
            return count, took
        count = self._wanted(count, took)
        return count, batch(count)

    async def measure_async(self, batch: Callable[[int], Awaitable[float]]) -> tuple[int, float]:
        """The same for a batch that is awaited."""
        count, took = self.first, await batch(self.first)
        while (larger := self._next(count, took)) is not None:
            count, took = larger, await batch(larger)
        if took > self.seconds * LONG_ENOUGH:
            return count, took
        count = self._wanted(count, took)
        return count, await batch(count)

    def _next(self, count: int, took: float) -> int | None:
        if took >= self.seconds / 5 or count >= self.limit:
            return None
        growth = min(8.0, max(2.0, self.seconds / 4 / max(took, 1e-6)))
        return min(self.limit, int(count * growth))

    def _wanted(self, count: int, took: float) -> int:
        return max(self.first, min(self.limit, int(count * self.seconds / max(took, 1e-6))))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def clock() -> float:
    """Seconds on the machine's own clock, the same in all its processes."""
    return time.perf_counter()
