"""A panel with a curve for each layer, named at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from trunkbench.drawing import DASHES, FAULT, color_of, place_among_peers, plain_numbers, shown_in
from trunkbench.summary import Row, Summary
from trunkbench.tables import number


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
        return sum(bool(shown_in(summary, workload, self.figure)) for _, workload in self.points) > 1

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
    plain_numbers(axis, "y")
    _name_ends(axis, summary, ends=ends, at=sizes[-1])


def _line(axis: Axes, summary: Summary, *, layer: str, found: Sequence[tuple[int, Row, float]]) -> None:
    ours, color = summary.layers[layer].ours, color_of(summary, layer)
    dashes = "solid" if ours else DASHES[place_among_peers(summary, layer) % len(DASHES)]
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
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "alpha": 0.6, "relpos": (0, 0.5)},
        )
