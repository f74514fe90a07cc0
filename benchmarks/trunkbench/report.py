"""The report: Markdown for people, JSON with all samples for programs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trunkbench.driver import Outcome
from trunkbench.figures import Figure, Workload
from trunkbench.ledger import add_up
from trunkbench.targets import Verdict

NO_VALUE = "n/a"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """All that one run found."""

    date: str
    options: Mapping[str, Any]
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    left_out: Mapping[str, str]
    outcomes: Sequence[Outcome]
    verdicts: Sequence[Verdict]

    def as_markdown(self) -> str:
        """The whole report."""
        parts = [*self._head(), *self._targets(), "## Figures", ""]
        for workload in dict.fromkeys(outcome.workload.name for outcome in self.outcomes):
            parts += _table([outcome for outcome in self.outcomes if outcome.workload.name == workload])
        return "\n".join([*parts, *self._errors()]) + "\n"

    def as_data(self) -> dict[str, Any]:
        """Everything, samples included."""
        return {
            "date": self.date,
            "options": dict(self.options),
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "left_out": dict(self.left_out),
            "results": [_outcome_data(outcome) for outcome in self.outcomes],
            "targets": [_verdict_data(verdict) for verdict in self.verdicts],
        }

    def _head(self) -> Iterator[str]:
        yield f"# Benchmark of {self.date}"
        yield ""
        if self.options["postgres"]:
            yield f"PostgreSQL with {', '.join(self.options['postgres'])}; else as it is made."
        yield f"{self.options['rounds']} rounds of {self.options['seconds']:g} s; median (lowest to highest)."
        yield 'A ledger other than "all" means that the layer did not deliver what it was given; read its figure so.'
        yield ""
        if float(self.machine["load_before"]) > int(self.machine["processors"]) / 4:
            yield "**The machine was busy with other work when this run began: do not rely on its figures.**"
            yield ""
        yield from (f"- {name.replace('_', ' ')}: {value}" for name, value in self.machine.items())
        yield "- versions: " + ", ".join(f"{name} {version}" for name, version in self.versions.items())
        yield from (f"- left out: {name}, {reason}" for name, reason in self.left_out.items())
        yield ""

    def _targets(self) -> Iterator[str]:
        shown = [verdict for verdict in self.verdicts if verdict.value is not None]
        if not shown:
            return
        yield from ("## Targets", "", "| what | value | by round | target | met |", "|---|---|---|---|---|")
        for verdict in shown:
            low, high = _number(min(verdict.by_round, default=0.0)), _number(max(verdict.by_round, default=0.0))
            met = {True: "yes", False: "**no**", None: ""}[verdict.met]
            cells = (verdict.target.title, _number(verdict.value or 0.0), f"{low} to {high}", verdict.target.words, met)
            yield f"| {' | '.join(cells)} |"
        yield ""

    def _errors(self) -> Iterator[str]:
        failed = [outcome for outcome in self.outcomes if outcome.errors]
        if failed:
            yield from ("## Failed measurements", "")
        for outcome in failed:
            yield f"### {outcome.workload.name}, {outcome.peer.label}"
            yield from ("", "```", outcome.errors[0], "```", "")


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    workload = outcomes[0].workload
    figures = [figure for figure in workload.figures if any(outcome.values(figure.name) for outcome in outcomes)]
    titles = ["layer", *(_heading(figure) for figure in figures), "ledger"]
    lines = [f"### {workload.title} (`{workload.name}`)", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for outcome in outcomes:
        cells = [outcome.peer.label, *(_cell(outcome, figure) for figure in figures), _ledger(outcome)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _heading(figure: Figure) -> str:
    unit = f", {figure.unit}" if figure.unit and figure.unit != "/s" else ""
    return f"{figure.title}{unit}"


def _cell(outcome: Outcome, figure: Figure) -> str:
    values = outcome.values(figure.name)
    if not values:
        return NO_VALUE
    middle = _number(outcome.middle(figure.name) or 0.0)
    return f"{middle} ({_number(min(values))} to {_number(max(values))})" if len(values) > 1 else middle


def _number(value: float) -> str:
    """Three digits that mean something, thousands with commas."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _ledger(outcome: Outcome) -> str:
    words = [add_up(sample.account for sample in outcome.samples).describe()]
    if outcome.errors:
        words.append(f"{len(outcome.errors)} of {len(outcome.samples)} failed")
    return ", ".join(f"**{word}**" for word in words if word) or "all"


def _outcome_data(outcome: Outcome) -> dict[str, Any]:
    workload: Workload = outcome.workload
    return {
        "workload": workload.name,
        "title": workload.title,
        "layer": outcome.peer.name,
        "units": {figure.name: figure.unit for figure in workload.figures},
        "medians": {figure.name: outcome.middle(figure.name) for figure in workload.figures},
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
        "theirs": verdict.target.theirs,
        "at_least": verdict.target.at_least,
        "at_most": verdict.target.at_most,
        "value": verdict.value,
        "by_round": verdict.by_round,
        "met": verdict.met,
    }
