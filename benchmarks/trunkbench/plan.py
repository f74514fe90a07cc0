"""What is run, in which order, and for how long: rounds and lengths that fit into the time there is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trunkbench.figures import Workload
from trunkbench.peers import BARE, Peer

# No measurement is shorter than this: a batch must outlast what the system does now and then.
SHORTEST_SECONDS = 0.15
# What starting a layer costs beside a process that only imports Channels.
DJANGO_SECONDS = 0.5
SERVER_SECONDS = 0.2
# Something always takes longer than was thought, such as waiting for what a peer lost; else the last workloads would
# have to be short.
SLACK = 0.94


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run."""

    workloads: Sequence[Workload]
    peers: Sequence[Peer]
    rounds: int

    def pairs(self, workload: Workload) -> list[Peer]:
        """The peers of this workload."""
        return [peer for peer in (*self.peers, BARE) if self._fits(workload, peer)]

    def _fits(self, workload: Workload, peer: Peer) -> bool:
        if workload.needs and not any(workload.needs in each.needs for each in self.peers):
            return False
        # A run of variants alone is asked for by their names.
        alone = all(each.variant for each in self.peers)
        return workload.suits(peer) and (workload.variants or not peer.variant or alone)

    def rounds_of(self, workload: Workload) -> int:
        """A point of a curve is measured once: its neighbours show whether it is an accident."""
        return 1 if workload.series else self.rounds

    def steps(self, workload: Workload) -> Iterator[tuple[int, Peer]]:
        """Round by round, another peer first in each round."""
        peers = self.pairs(workload)
        for number in range(self.rounds_of(workload)):
            shift = number % len(peers) if peers else 0
            for peer in peers[shift:] + peers[:shift]:
                yield number + 1, peer

    def count(self) -> int:
        """How many measurements there are."""
        return sum(self.rounds_of(each) * len(self.pairs(each)) for each in self.workloads)

    def seconds(self, workload: Workload, *, length: float) -> float:
        """About how long this workload takes with all its peers and rounds."""
        once = sum(_beside(workload, peer) + workload.factor * length for peer in self.pairs(workload))
        return once * self.rounds_of(workload)

    def length_for(self, workloads: Sequence[Workload], *, seconds: float) -> float:
        """The length of a measurement with which these workloads take so long."""
        fixed = sum(self.seconds(each, length=0.0) for each in workloads)
        slope = sum(self.seconds(each, length=1.0) for each in workloads) - fixed
        return max(SHORTEST_SECONDS, (seconds - fixed) / slope) if slope else SHORTEST_SECONDS


def _beside(workload: Workload, peer: Peer) -> float:
    start = (DJANGO_SECONDS if peer.in_django_file else 0.0) + (SERVER_SECONDS if peer.needs else 0.0)
    return workload.fixed + start


class Budget:
    """Shares out the time that is left, workload by workload, as some take longer than was thought."""

    def __init__(self, plan: Plan, *, seconds: float, longest: float) -> None:
        self._plan = plan
        self._longest = longest
        self._ends_at = time.monotonic() + seconds

    def length(self, number: int) -> float:
        """The length of each measurement of this workload, which is the next one."""
        left = self._plan.workloads[number:]
        seconds = (self._ends_at - time.monotonic()) * SLACK
        return min(self._longest, self._plan.length_for(left, seconds=seconds))

    @property
    def is_used_up(self) -> bool:
        """Whether there is no time for another workload."""
        return time.monotonic() > self._ends_at

    def estimate(self) -> float:
        """The seconds that all will take."""
        length = self.length(0)
        return sum(self._plan.seconds(each, length=length) for each in self._plan.workloads)
