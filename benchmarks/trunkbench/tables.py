"""Markdown: the whole report of a run, and its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trunkbench.summary import Row, Spread, Summary

NO_VALUE = "n/a"


def report(summary: Summary) -> str:
    """All that a run found."""
    parts = [f"# Benchmark of {summary.date}", "", *_head(summary), *targets(summary, heading="## Targets")]
    parts += ["## Figures", ""]
    for workload in dict.fromkeys(row.workload for row in summary.rows):
        parts += figures(summary, workload)
    return "\n".join(parts) + "\n"


def _head(summary: Summary) -> Iterator[str]:
    if summary.options.get("postgres"):
        yield f"PostgreSQL with {', '.join(summary.options['postgres'])}; else as it is made."
    yield f"Median (lowest to highest). {how(summary)}."
    yield 'A ledger other than "all" means that the layer did not deliver what it was given; read its figure so.'
    yield ""
    if float(summary.machine["load_before"]) > int(summary.machine["processors"]) / 4:
        yield "**The machine was busy with other work when this run began: do not rely on its figures.**"
        yield ""
    yield from (f"- {name.replace('_', ' ')}: {value}" for name, value in summary.machine.items())
    yield "- versions: " + ", ".join(f"{name} {version}" for name, version in summary.versions.items())
    yield from (f"- left out: {name}, {reason}" for name, reason in summary.left_out.items())
    yield ""


def how(summary: Summary) -> str:
    """Rounds and kind of the run, in words."""
    if summary.options["quick"]:
        return "One short round (--quick): it shows that all works, and proves no figure"
    rounds = int(summary.options["rounds"])
    return f"{rounds} round{'s' if rounds > 1 else ''}; curves and details in one"


def targets(summary: Summary, *, heading: str) -> list[str]:
    """What is promised, and whether this run shows it."""
    shown = [target for target in summary.targets if target["value"] is not None]
    if not shown:
        return []
    lines = [heading, "", "| what | value | by round | target | met |", "|---|---|---|---|---|"]
    return [*lines, *(_target(each) for each in shown), ""]


def _target(target: Mapping[str, Any]) -> str:
    by_round = target["by_round"]
    low, high = number(min(by_round, default=0.0)), number(max(by_round, default=0.0))
    met = {True: "yes", False: "**no**", None: ""}[target["met"]]
    title = target["title"]
    if title.endswith("without a fault") and target["theirs"]:
        title = f"{title}, {target['theirs'][1]}"
    return f"| {title} | {number(target['value'])} | {low} to {high} | {target['words']} | {met} |"


def figures(summary: Summary, workload: str) -> list[str]:
    """The table of one workload."""
    rows, about = summary.rows_of(workload), summary.workloads[workload]
    shown = [each for each in about["figures"] if any(each["name"] in row.figures for row in rows)]
    shares = any(row.share is not None for row in rows)
    titles = ["layer", *(_heading(each) for each in shown), *(["of the limit"] if shares else []), "ledger"]
    lines = [f"### {about['title']} (`{workload}`)", "", *header(titles)]
    for row in rows:
        cells = [summary.layers[row.layer].label, *(cell(row.figures.get(each["name"])) for each in shown)]
        cells += [_share(row)] if shares else []
        lines.append(f"| {' | '.join([*cells, ledger(row)])} |")
    return [*lines, ""]


def header(titles: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]


def _heading(figure: Mapping[str, Any]) -> str:
    unit = f", {figure['unit']}" if figure["unit"] and figure["unit"] != "/s" else ""
    return f"{figure['title']}{unit}"


def cell(spread: Spread | None) -> str:
    """The median, and the extremes of several rounds."""
    if spread is None:
        return NO_VALUE
    if spread.lowest == spread.highest:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.lowest)} to {number(spread.highest)})"


def _share(row: Row) -> str:
    return "" if row.share is None else f"{number(row.share * 100)} % of `{row.limit}`"


def number(value: float) -> str:
    """Three digits that mean something, thousands with commas."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ledger(row: Row) -> str:
    """Faults are shown in bold."""
    return f"**{row.marked.replace('|', '/')}**" if row.marked else "all"
