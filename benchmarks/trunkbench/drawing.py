"""What all plots have in common: colours, style, legend."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from trunkbench.summary import Row, Summary

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


def shown_in(summary: Summary, workload: str, figure: str) -> list[Row]:
    """The layers that have this figure."""
    return [row for row in summary.rows_of(workload) if figure in row.figures and row.layer != "bare"]


def color_of(summary: Summary, layer: str) -> str:
    """Blue for ours, grey for all others."""
    if summary.layers[layer].ours:
        return OURS.get(layer, OURS["sqlite"])
    return PEERS[place_among_peers(summary, layer) % len(PEERS)]


def place_among_peers(summary: Summary, layer: str) -> int:
    """By which their greys and dashes are told apart."""
    return [name for name, each in summary.layers.items() if not each.ours].index(layer)


def plain_numbers(axis: Axes, which: str) -> None:
    """Not powers of ten."""
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
