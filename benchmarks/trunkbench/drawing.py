"""Two kinds of panels: a line of dots for each layer, and curves with their names at their ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from trunkbench.summary import Row, Summary
from trunkbench.tables import number

FAULT = "#c62828"
INK = "#333333"
# One family for ours. Dark ones are told apart most easily, so what is looked for most is darkest.
OURS = {"sqlite": "#0b3c78", "postgres": "#1668b8", "rabbitmq": "#3f95e0", "database": "#2aa7a7", "memory": "#7fbdf2"}
PEERS = ("#555555", "#7d7d7d", "#696969", "#8c8c8c")
SMALL: Any = {"fontsize": 8, "color": "#777777"}
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#bbbbbb",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "svg.fonttype": "none",
    "svg.hashsalt": "channels-trunk",
}


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
        found = {row.layer: row.figures[figure].median for row in _shown(summary, workload, figure)}
        return sorted(found, key=lambda layer: found[layer], reverse=not self.lower_is_better)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line for each layer over the sizes of something."""

    title: str
    x_title: str
    points: Sequence[tuple[int, str]]
    """Size and workload."""
    figure: str

    def found(self, summary: Summary) -> bool:
        """Whether there is enough for a curve."""
        return sum(bool(_shown(summary, workload, self.figure)) for _, workload in self.points) > 1

    def points_of(self, summary: Summary, layer: str) -> list[tuple[int, Row, float]]:
        """Where the layer has the figure."""
        rows = [(size, summary.row(workload, layer)) for size, workload in self.points]
        return [
            (size, row, row.figures[self.figure].median) for size, row in rows if row and self.figure in row.figures
        ]

    def fails_after(self, summary: Summary, layer: str, size: int) -> int | None:
        """The next size, if the layer was tried there and has no figure."""
        beyond = [(larger, summary.row(workload, layer)) for larger, workload in self.points if larger > size]
        return next((larger for larger, row in beyond if row), None)


@dataclass(frozen=True, kw_only=True)
class End:
    """Of a line, with what is said there."""

    layer: str
    size: int
    value: float
    words: str


def _shown(summary: Summary, workload: str, figure: str) -> list[Row]:
    return [row for row in summary.rows_of(workload) if figure in row.figures and row.layer != "bare"]


def color_of(summary: Summary, layer: str) -> str:
    """Blue for ours, grey for all others."""
    if summary.layers[layer].ours:
        return OURS.get(layer, OURS["sqlite"])
    return PEERS[_place_among_peers(summary, layer) % len(PEERS)]


def _place_among_peers(summary: Summary, layer: str) -> int:
    return [name for name, each in summary.layers.items() if not each.ours].index(layer)


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
    _plain_numbers(axis, "x")
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


def draw_curves(axis: Axes, curve: Curve, summary: Summary) -> None:
    """A line for each layer, named at its end."""
    axis.set_xscale("log")
    axis.set_yscale("log")
    ends = []
    for layer in summary.layers:
        found = curve.points_of(summary, layer)
        if len(found) < 2:
            continue
        _line(axis, summary, layer=layer, found=found)
        size, _, value = found[-1]
        words = number(value)
        if failed := curve.fails_after(summary, layer, size):
            axis.plot(size, value, "x", color=FAULT, markersize=9, markeredgewidth=1.8, zorder=4)
            words = f"fails at {failed:,}"
        ends.append(End(layer=layer, size=size, value=value, words=words))
    axis.set_title(curve.title)
    axis.set_xlabel(curve.x_title)
    sizes = [size for size, _ in curve.points]
    axis.set_xticks(sizes, [number(size) if size < 100 else f"{size:,}" for size in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlim(sizes[0] * 0.8, sizes[-1] * (sizes[-1] / sizes[0]) ** 0.55)
    _plain_numbers(axis, "y")
    _name_ends(axis, summary, ends=ends, at=sizes[-1])


def _line(axis: Axes, summary: Summary, *, layer: str, found: Sequence[tuple[int, Row, float]]) -> None:
    ours, color = summary.layers[layer].ours, color_of(summary, layer)
    dashes = "solid" if ours else DASHES[_place_among_peers(summary, layer) % len(DASHES)]
    sizes, values = [size for size, _, _ in found], [value for _, _, value in found]
    axis.plot(sizes, values, color=color, linestyle=dashes, linewidth=2.2 if ours else 1.3, zorder=3 if ours else 2)
    axis.plot(sizes, values, "o", color=color, markersize=5 if ours else 3.5, zorder=3 if ours else 2)
    for size, row, value in found:
        if row.marked:
            axis.plot(size, value, "x", color=FAULT, markersize=9, markeredgewidth=1.8, zorder=4)


def _name_ends(axis: Axes, summary: Summary, *, ends: Sequence[End], at: int) -> None:
    """Beside the ends of the lines, pushed apart where they are close."""
    low, high = (math.log(limit) for limit in axis.get_ylim())
    gap, below = (high - low) / 24, math.inf
    for end in sorted(ends, key=lambda end: -end.value):
        below = min(math.log(end.value), below - gap)
        color, layer = color_of(summary, end.layer), summary.layers[end.layer]
        axis.annotate(
            f"{layer.label}  {end.words}",
            xy=(end.size, end.value),
            xytext=(at * 1.25, math.exp(below)),
            color=color,
            fontsize=8,
            fontweight="bold" if layer.ours else "normal",
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "alpha": 0.6},
        )


def _plain_numbers(axis: Axes, which: str) -> None:
    side = axis.xaxis if which == "x" else axis.yaxis
    side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    side.set_minor_locator(NullLocator())


def draw_legend(figure: Figure, summary: Summary) -> None:
    """What the colours mean, and of which run it is."""
    marks = [
        Line2D([], [], color=OURS["sqlite"], marker="o", linewidth=3, label="channels-trunk"),
        Line2D([], [], color=PEERS[0], marker="o", linewidth=2, label="other layers"),
        Line2D(
            [],
            [],
            color=FAULT,
            marker="x",
            linewidth=0,
            markeredgewidth=1.8,
            label="lost, twice, out of order, or overloaded",
        ),
    ]
    figure.legend(handles=marks, loc="outside lower left", ncols=3, frameon=False, fontsize=8.5)
    words = f"{summary.date[:10]}, {summary.machine['processors']} processors, {summary.machine['processor']}, medians"
    figure.text(0.995, 0.012, f"{words}; logarithmic", ha="right", va="bottom", fontsize=7.5, color="#888888")
