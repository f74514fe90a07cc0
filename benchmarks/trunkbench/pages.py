"""The tables of the documentation, made of a summary; they stand between markers in the pages.

A page says `<!-- figures: NAME -->`, and `<!-- end of figures -->` after the table; what is between is replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trunkbench.summary import Row, Summary
from trunkbench.tables import NO_VALUE, cell, header, how, number, targets

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/explanation/performance.md")
PLOTS = ROOT / "docs" / "explanation" / "plots"
RESULT = ROOT / "benchmarks" / "results" / "published.json"

_BLOCK = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
MARK = "†"
NOT_MEASURED = "Not measured in this run."


class Column(NamedTuple):
    """A figure in a table of layers."""

    title: str
    workload: str
    figure: str


SHORT = (
    Column("one way, messages/s", "one_way_32", "rate"),
    Column("round trip, ms", "round_trip", "median"),
    Column("p99 at 2,000/s, ms", "open_loop", "p99"),
    Column("to 1,000 members, deliveries/s", "fan_out", "rate"),
    Column("worker channel, jobs/s", "worker_channel_1", "rate"),
)
MORE = (
    Column("one sender, messages/s", "one_way_1", "rate"),
    Column("from idle, ms", "from_idle", "median"),
    Column("1 MB, ms", "large_message", "median"),
    Column("joins/s, own groups", "group_add_own_rooms", "sequential"),
    Column("`layer.sync.group_send`, calls/s", "sync_api", "rate"),
    Column("`async_to_sync(group_send)`, calls/s", "async_to_sync", "rate"),
)
WITHIN = (
    Column("send and receive, pairs/s", "one_process_pair", "rate"),
    Column("to 1,000 members, deliveries/s", "one_process_fan_out", "rate"),
    Column("joins/s", "group_add_own_rooms", "sequential"),
)
IDLE = (
    Column("processor, % of a core", "idle", "cpu"),
    Column("memory a receiver, KiB", "idle", "traced"),
    Column("threads", "idle", "threads"),
    Column("connections", "idle", "connections"),
)
SHARES = (
    Column("one way, 32 senders", "one_way_32", "rate"),
    Column("1 sender", "one_way_1", "rate"),
    Column("round trip", "round_trip", "median"),
    Column("to 1,000 members", "fan_out", "rate"),
    Column("the same in one process", "one_process_fan_out", "rate"),
    Column("worker channel", "worker_channel_1", "rate"),
    Column("`layer.sync.group_send`", "sync_api", "rate"),
)
SENDERS = tuple(
    Column(f"{tasks}, {words}", f"one_way_{tasks}{name}", "rate")
    for name, words in (("", "200 bytes"), ("_4k", "4 KB"))
    for tasks in (1, 32, 256)
)
PROCESSES = tuple(Column(f"{count}", f"growth_processes_{count}", "sends") for count in (1, 2, 4, 8, 16))
GROUPS = tuple(Column(f"{count:,}", f"growth_groups_{count}", "rate") for count in (10, 1_000, 10_000, 100_000))


def layers_table(columns: Sequence[Column]) -> Callable[[Summary], list[str]]:
    """A row for each layer that has one of these figures; what a ledger says of it stands below."""

    def table(summary: Summary) -> list[str]:
        shown = [each for each in columns if summary.rows_of(each.workload)]
        if not shown:
            return [NOT_MEASURED]
        lines = header(["layer", *(each.title for each in shown)])
        remarks: dict[str, list[str]] = {}
        for layer in _in_order(summary, shown):
            cells = []
            for column in shown:
                row = summary.row(column.workload, layer)
                cells.append(_cell(row, column.figure))
                if row and row.marked:
                    remarks.setdefault(f"{summary.layers[layer].label}: {row.marked}", []).append(column.title)
            lines.append(f"| {_label(summary, layer)} | {' | '.join(cells)} |")
        return [*lines, *_below(remarks)]

    return table


def _in_order(summary: Summary, columns: Sequence[Column]) -> list[str]:
    """Ours first."""
    there = {row.layer for column in columns for row in summary.rows_of(column.workload)}
    return sorted((name for name in summary.layers if name in there), key=lambda name: not summary.layers[name].ours)


def _label(summary: Summary, layer: str) -> str:
    label = summary.layers[layer].label
    return f"**{label}**" if summary.layers[layer].ours else label


def _cell(row: Row | None, figure: str) -> str:
    if row is None:
        return ""
    mark = f" {MARK}" if row.marked else ""
    return (number(row.figures[figure].median) if figure in row.figures else NO_VALUE) + mark


def _below(remarks: Mapping[str, Sequence[str]]) -> list[str]:
    """What is said of several figures is said once."""
    words = [f"{remark.replace('|', '/')} ({'; '.join(titles)})" for remark, titles in remarks.items()]
    return ["", f"{MARK} {'; '.join(words)}."] if words else []


def run(summary: Summary) -> list[str]:
    """Of which run the figures are, in a line."""
    processors = f"{summary.machine['processors']} processors"
    return [f"Of {summary.date[:10]}, on {processors}. Medians. {how(summary)}."]


def machine(summary: Summary) -> list[str]:
    """Of which run the figures are, with everything that could matter."""
    about, versions = summary.machine, summary.versions
    there = (
        f"{about['processors']} processors ({about['processor']}), {about['system']}, files on {about['file_system']}"
    )
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    left_out = [f"{name} ({reason})" for name, reason in summary.left_out.items()]
    lines = [f"Of {summary.date[:10]}, on {there}. Medians. {how(summary)}."]
    lines += [f"Left out: {'; '.join(left_out)}."] if left_out else []
    return [*lines, "", f"{named}."]


def limits(summary: Summary) -> list[str]:
    """What the machine can do, and the share of it that each layer reaches."""
    bare = [row for row in summary.rows if row.layer == "bare"]
    lines = header(["limit", "figure"])
    for row in bare:
        for figure in summary.workloads[row.workload]["figures"]:
            if figure["name"] in row.figures:
                title = summary.workloads[row.workload]["title"].removeprefix("Limit: ")
                unit = f" {figure['unit']}" if figure["unit"] not in ("", "/s") else ""
                words = f"{title}: {figure['title']}"
                lines.append(f"| {words} (`{row.workload}`) | {cell(row.figures[figure['name']])}{unit} |")
    return [*lines, "", *_shares(summary)]


def _shares(summary: Summary) -> list[str]:
    """Layers by figures; which limit it is depends on what the layer runs on."""
    shown = [each for each in SHARES if any(row.share is not None for row in summary.rows_of(each.workload))]
    lines = header(["share of the limit", *(each.title for each in shown)])
    for layer in _in_order(summary, shown):
        rows = [summary.row(column.workload, layer) for column in shown]
        cells = [f"{number(row.share * 100)} %" if row and row.share is not None else "" for row in rows]
        lines.append(f"| {_label(summary, layer)} | {' | '.join(cells)} |")
    return lines


BLOCKS: Mapping[str, Callable[[Summary], list[str]]] = {
    "machine": machine,
    "run": run,
    "short": layers_table(SHORT),
    "more": layers_table(MORE),
    "senders": layers_table(SENDERS),
    "within": layers_table(WITHIN),
    "idle": layers_table(IDLE),
    "processes": layers_table(PROCESSES),
    "groups": layers_table(GROUPS),
    "limits": limits,
    "targets": lambda summary: targets(summary, heading="")[2:-1],
}


# What a plot shows, for those who do not see it.
PLOT_WORDS = {
    "one-way": "Messages a second, one way between two processes, by layer",
    "latency": "Round trip, and the time that a message takes at 2,000 a second, by layer",
    "fan-out": "Deliveries a second of a group_send, by layer",
    "worker-channel": "Jobs a second through a worker channel, by layer",
    "growth": "group_sends a second by the number of processes and of groups, by layer",
}


def image(name: str, *, folder: Path, plots: Path) -> list[str]:
    """The plot, if this run had the figures for it."""
    file = plots / f"{name}.svg"
    there = os.path.relpath(file, folder)
    return [f"![{PLOT_WORDS[name]}]({there})"] if file.is_file() else [NOT_MEASURED]


def filled(text: str, summary: Summary, *, folder: Path, plots: Path = PLOTS) -> str:
    """A page of this folder with the figures of a run; a name that no table and no plot has is an error."""

    def block(found: re.Match[str]) -> str:
        name = found[2]
        if name.startswith("plot-"):
            lines = image(name.removeprefix("plot-"), folder=folder, plots=plots)
        else:
            lines = BLOCKS[name](summary)
        return found[1] + "\n".join(["", *lines, "", ""]) + found[3]

    return _BLOCK.sub(block, text)
