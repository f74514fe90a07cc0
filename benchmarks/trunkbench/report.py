"""All that one run found, for JSON; what tables and plots are made of is its summary."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from trunkbench.driver import Outcome
from trunkbench.figures import Workload
from trunkbench.targets import Verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of every measurement, with what is needed to judge it."""

    date: str
    options: Mapping[str, Any]
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    left_out: Mapping[str, str]
    outcomes: Sequence[Outcome]
    verdicts: Sequence[Verdict]

    def as_data(self) -> dict[str, Any]:
        """Everything, samples included."""
        peers = dict.fromkeys(outcome.peer for outcome in self.outcomes)
        workloads = {outcome.workload.name: outcome.workload for outcome in self.outcomes}
        return {
            "date": self.date,
            "options": dict(self.options),
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "left_out": dict(self.left_out),
            "layers": {each.name: {"label": each.label, "engine": each.engine, "ours": each.ours} for each in peers},
            "workloads": {name: _workload_data(workload) for name, workload in workloads.items()},
            "results": [_outcome_data(outcome) for outcome in self.outcomes],
            "targets": [_verdict_data(verdict) for verdict in self.verdicts],
        }


def _workload_data(workload: Workload) -> dict[str, Any]:
    return {"title": workload.title, "figures": [dataclasses.asdict(figure) for figure in workload.figures]}


def _outcome_data(outcome: Outcome) -> dict[str, Any]:
    return {
        "workload": outcome.workload.name,
        "layer": outcome.peer.name,
        "medians": {figure.name: outcome.middle(figure.name) for figure in outcome.workload.figures},
        "clean": outcome.clean,
        "samples": [
            # The paths of this machine's disk say nothing to others.
            dataclasses.asdict(sample) | {"error": re.sub(r'File "[^"]*/', 'File "', sample.error or "") or None}
            for sample in outcome.samples
        ],
    }


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    return {
        "title": verdict.target.title,
        "ours": verdict.target.ours,
        "theirs": verdict.opponent,
        "words": verdict.target.words,
        "at_least": verdict.target.at_least,
        "at_most": verdict.target.at_most,
        "value": verdict.value,
        "by_round": verdict.by_round,
        "met": verdict.met,
    }
