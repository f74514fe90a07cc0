"""Runs the workloads in rounds, each round all layers in turn, so that a drift of the machine meets all alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from trunkbench.crew import MeasurementError
from trunkbench.figures import Bench, Sample, Workload, clock, median
from trunkbench.peers import Peer
from trunkbench.plan import Budget, Plan
from trunkbench.progress import Progress
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
    def notes(self) -> list[str]:
        """What a reader must know, once each."""
        return list(dict.fromkeys(sample.note for sample in self.samples if sample.note))

    @property
    def clean(self) -> bool:
        """True if no round failed and no ledger shows a fault."""
        return not self.errors and all(sample.account.clean for sample in self.samples)


Record = Callable[[Workload, Peer, Sample], None]


def run(plan: Plan, services: Services, *, budget: Budget, record: Record) -> list[Workload]:
    """Run all; a measurement that fails is recorded as such, and the run goes on. Return what there was no time for."""
    progress = Progress(total=plan.count(), seconds=budget.estimate())
    for index, workload in enumerate(plan.workloads):
        if budget.is_used_up:
            progress.end()
            return list(plan.workloads[index:])
        seconds = budget.length(index)  # the same for all who are compared
        for number, peer in plan.steps(workload):
            progress.step(workload.name, f"round {number} of {plan.rounds_of(workload)}, {peer.label}")
            record(workload, peer, _measure(workload, peer, services=services, seconds=seconds))
    progress.end()
    return []


def _measure(workload: Workload, peer: Peer, *, services: Services, seconds: float) -> Sample:
    started = clock()
    try:
        bench = Bench(peer=peer, services=services, run_id=services.next_run(), seconds=seconds)
        sample = workload.measure(bench)
    except (MeasurementError, ServiceError) as error:
        sample = Sample(error=str(error))
    except Exception as error:  # noqa: BLE001  # half an hour of measurements must not be lost to one of them
        sample = Sample(error=f"{type(error).__name__}: {error}")
    return replace(sample, took=round(clock() - started, 3))
