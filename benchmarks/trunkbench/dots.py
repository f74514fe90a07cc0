"""A panel with a line of dots for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from trunkbench.drawing import FAULT, INK, SMALL, color_of, plain_numbers, shown_in
from trunkbench.summary import Row, Summary
from trunkbench.tables import number


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One figure of a row."""

    name: str
    row: Row
    value: float
    rank: int
    """0 is the largest."""


@dataclass(frozen=True, kw_only=True)
class Dots:
    """A row for each layer, with a dot for each of some figures; the first is the largest, and the layers' order."""

    title: str
    points: Sequence[tuple[str, str, str]]
    """Workload, figure, and the dot's name."""
    lower_is_better: bool = False

    def dots_of(self, summary: Summary, layer: str) -> list[Dot]:
        """Those for which there is a figure."""
        rows = [(name, figure, summary.row(workload, layer)) for workload, figure, name in self.points]
        return [
            Dot(name=name, row=row, value=row.figures[figure].median, rank=min(rank, 2))
            for rank, (name, figure, row) in enumerate(rows)
            if row and figure in row.figures
        ]

    def layers(self, summary: Summary) -> list[str]:
        """Those that have the figure, the best one first."""
        workload, figure, _ = self.points[0]
        found = {row.layer: row.figures[figure].median for row in shown_in(summary, workload, figure)}
        return sorted(found, key=lambda layer: found[layer], reverse=not self.lower_is_better)


def draw_dots(axis: Axes, panel: Dots, summary: Summary, *, layers: Sequence[str]) -> None:
    """The rows of a panel, with their figures at their ends."""
    axis.set_xscale("log")
    for place, layer in enumerate(layers):
        if dots := panel.dots_of(summary, layer):
            shown = dots if panel.lower_is_better else dots[:1]
            text = " / ".join(dict.fromkeys(number(dot.value) for dot in shown))
            _row_of_dots(axis, place, dots=dots, text=text, color=color_of(summary, layer))
    axis.set_title(panel.title, pad=22 if len(panel.points) > 1 else None)
    if len(panel.points) > 1:
        words = _names_of_dots(panel, summary)
        axis.annotate(words, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", **SMALL)
    axis.set_yticks(range(len(layers)), [summary.layers[layer].label for layer in layers])
    for label, layer in zip(axis.get_yticklabels(), layers, strict=True):
        label.set_color(color_of(summary, layer))
        label.set_fontweight("bold" if summary.layers[layer].ours else "normal")
    axis.set_ylim(len(layers) - 0.4, -0.9)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    plain_numbers(axis, "x")
    low, high = axis.get_xlim()
    axis.set_xlim(low, high * (high / low) ** 0.28)  # room for what stands at the end of a row


def _row_of_dots(axis: Axes, place: int, *, dots: Sequence[Dot], text: str, color: str) -> None:
    values = [dot.value for dot in dots]
    axis.plot([min(values), max(values)], [place, place], color=color, alpha=0.35, linewidth=3, solid_capstyle="round")
    for dot in dots:
        axis.plot(dot.value, place, "o", color=color, markersize=(8, 5.5, 4)[dot.rank], alpha=1 - 0.22 * dot.rank)
        if dot.row.marked:
            axis.plot(dot.value, place, "x", color=FAULT, markersize=9 - dot.rank, markeredgewidth=1.8)
    put: Any = {"textcoords": "offset points", "va": "center"}
    axis.annotate(text, (max(values), place), (9, 0), color=INK, fontsize=8.5, **put)
    several = len({dot.row.workload for dot in dots}) > 1
    faults = [f"{dot.name}: {dot.row.marked}" if several else dot.row.marked for dot in dots if dot.row.marked]
    if faults:
        shift = (15 + 5.2 * len(text), 0)
        axis.annotate(short(faults[0]), (max(values), place), shift, color=FAULT, fontsize=8, **put)


def short(marked: str) -> str:
    """A fault in a few words."""
    return marked if len(marked) <= 34 else f"{marked[:32].rstrip(' ,;:')}…"


def _names_of_dots(panel: Dots, summary: Summary) -> str:
    sizes = ("large dot", "smaller", "smallest")
    names = [name for workload, _, name in panel.points if summary.rows_of(workload)]
    return ", ".join(f"{size}: {name}" for size, name in zip(sizes, names, strict=False))
