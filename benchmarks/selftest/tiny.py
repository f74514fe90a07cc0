"""The result of a run that never was: two layers and the bare machine, a loss, an overload and a failure."""

from __future__ import annotations

from trunkbench.driver import Outcome
from trunkbench.figures import Sample, Workload
from trunkbench.ledger import Account
from trunkbench.peers import BARE, Peer, peer_named
from trunkbench.promises import TARGETS
from trunkbench.report import Report
from trunkbench.summary import Summary
from trunkbench.targets import judge
from trunkbench.workloads.table import WORKLOADS

RATES = {"sqlite": 1_000.0, "redis-pubsub": 100.0, "redis-core": 10.0, "bare": 4_000.0}


def sample(workload: Workload, peer: Peer) -> Sample:
    """Pub/sub loses, and core is overloaded and fails from idle."""
    if (workload.name, peer.name) == ("from_idle", "redis-core"):
        return Sample(error="TimeoutError: it did not come back (redis-core reader)\nTraceback ...")
    rate = RATES[peer.name]
    figures = {figure.name: rate if figure.better == "higher" else 1 / rate for figure in workload.figures}
    lost = 7 if peer.name == "redis-pubsub" and workload.name.startswith("fan_out") else 0
    note = "overloaded" if peer.name == "redis-core" and workload.name.startswith("open_loop") else None
    return Sample(figures=figures, account=Account(sent=50, received=50 - lost, lost=lost), note=note)


def outcomes(*, rounds: int = 2) -> dict[tuple[str, str], Outcome]:
    """All workloads that suit."""
    peers = [*(peer_named(name) for name in RATES if name != "bare"), BARE]
    return {
        (workload.name, peer.name): Outcome(
            workload=workload, peer=peer, samples=[sample(workload, peer) for _ in range(rounds)]
        )
        for workload in WORKLOADS
        for peer in peers
        if workload.suits(peer)
    }


def report() -> Report:
    """Of all of them."""
    found = outcomes()
    return Report(
        date="2026-01-02T03:04:05+00:00",
        options={"rounds": 2, "minutes": 1.0, "seconds": None, "quick": False, "postgres": []},
        machine={"system": "Linux", "processor": "one", "processors": 2, "file_system": "ext4", "load_before": "0.1"},
        versions={"Python": "3.11"},
        left_out={"channels_postgres": "not installed"},
        outcomes=list(found.values()),
        verdicts=[judge(target, found) for target in TARGETS],
    )


def summary() -> Summary:
    """By way of what run.py writes."""
    return Summary.of(report().as_data())
