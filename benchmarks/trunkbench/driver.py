"""Runs the workloads in rounds, each round all layers in turn, so that a drift of the machine meets all alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from trunkbench.crew import MeasurementError
from trunkbench.figures import Bench, Sample, Workload, median
from trunkbench.peers import BARE, Peer
from trunkbench.services import ServiceError, Services


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All samples of one workload with one peer."""

    workload: Workload
    peer: Peer
    samples: list[Sample] = field(default_factory=list)

    def values(self, figure: str) -> list[float]:
        """This figure of all rounds that yielded it."""
        return [sample.figures[figure] for sample in self.samples if figure in sample.figures]

    def by_round(self, figure: str) -> list[float | None]:
        """This figure of each round, with None where a round failed."""
        return [sample.figures.get(figure) for sample in self.samples]

    def middle(self, figure: str) -> float | None:
        """The median, or None if no round yielded it."""
        values = self.values(figure)
        return median(values) if values else None

    @property
    def errors(self) -> list[str]:
        """What went wrong, round by round."""
        return [sample.error for sample in self.samples if sample.error]

    @property
    def clean(self) -> bool:
        """True if no round failed and no ledger shows a fault."""
        return not self.errors and all(sample.account.clean for sample in self.samples)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run."""

    workloads: Sequence[Workload]
    peers: Sequence[Peer]
    rounds: int
    seconds: float

    def pairs(self, workload: Workload) -> list[Peer]:
        """The peers of this workload."""
        return [peer for peer in (*self.peers, BARE) if workload.suits(peer)]

    def steps(self) -> Iterator[tuple[int, Workload, Peer]]:
        """Workload by workload, round by round, another peer first in each round."""
        for workload in self.workloads:
            peers = self.pairs(workload)
            for number in range(self.rounds):
                shift = number % len(peers) if peers else 0
                for peer in peers[shift:] + peers[:shift]:
                    yield number + 1, workload, peer


class Progress:
    """One line on stderr; in a log, one line a step."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._started = time.monotonic()
        self._live = sys.stderr.isatty()

    def step(self, words: str) -> None:
        """Say what runs now."""
        elapsed = int(time.monotonic() - self._started)
        line = f"[{self._done + 1}/{self._total}, {elapsed // 60}:{elapsed % 60:02}] {words}"
        sys.stderr.write(f"\r\033[K{line}" if self._live else f"{line}\n")
        sys.stderr.flush()
        self._done += 1

    def end(self) -> None:
        """Clear the line."""
        if self._live:
            sys.stderr.write("\r\033[K")


def run(plan: Plan, services: Services, *, record: Callable[[Workload, Peer, Sample], None]) -> None:
    """Run all steps; a measurement that fails is recorded as such, and the run goes on."""
    steps = list(plan.steps())
    progress = Progress(len(steps))
    for number, workload, peer in steps:
        progress.step(f"{workload.name}, round {number} of {plan.rounds}, {peer.label}")
        record(workload, peer, _measure(workload, peer, services=services, seconds=plan.seconds))
    progress.end()


def _measure(workload: Workload, peer: Peer, *, services: Services, seconds: float) -> Sample:
    try:
        bench = Bench(peer=peer, services=services, run_id=services.next_run(), seconds=seconds)
        return workload.measure(bench)
    except (MeasurementError, ServiceError) as error:
        return Sample(error=str(error))
