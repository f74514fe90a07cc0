"""The comparison at a glance, as SVG and PNG. Ours are blue, peers are grey, and a fault of a ledger is red."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from trunkbench.curves import Curve, draw_curves
from trunkbench.dots import Dots, draw_dots
from trunkbench.drawing import STYLE, draw_legend
from trunkbench.summary import Summary

WIDTH = 9.0


def one_way(summary: Summary) -> Figure | None:
    """Messages a second by the number of senders."""
    dots = Dots(
        title="Messages a second, one way between two processes (200 bytes)",
        points=(
            ("one_way_32", "rate", "32 senders"),
            ("one_way_1", "rate", "1 sender"),
            ("one_way_256", "rate", "256"),
        ),
    )
    return _panels(summary, dots)


def latency(summary: Summary) -> Figure | None:
    """Round trip, and an open loop."""
    round_trip = Dots(
        title="Round trip between two processes, ms",
        points=(("round_trip", "median", "median"), ("round_trip", "p99", "p99")),
        lower_is_better=True,
    )
    open_loop = Dots(
        title="2,000 messages/s, time from due to received, ms",
        points=(
            ("open_loop", "median", "median"),
            ("open_loop", "p99", "p99"),
            ("open_loop", "p999", "p99.9"),
        ),
        lower_is_better=True,
    )
    return _panels(summary, round_trip, open_loop)


def fan_out(summary: Summary) -> Figure | None:
    """Deliveries a second by the size of the group."""
    curves = [
        Curve(
            title=f"Deliveries a second, members in {words}",
            x_title="members of the group",
            points=tuple(
                (size, f"fan_out{name}{more}") for size, name in ((100, "_100"), (1_000, ""), (10_000, "_10000"))
            ),
            figure="rate",
        )
        for more, words in (("", "one other process"), ("_in_4", "four processes"))
    ]
    if found := [curve for curve in curves if curve.found(summary)]:
        return _curves(summary, found)
    dots = Dots(
        title="Deliveries a second, group_send to 1,000 members in another process",
        points=(("fan_out", "rate", ""),),
    )
    return _panels(summary, dots)


def worker_channel(summary: Summary) -> Figure | None:
    """Jobs a second by the number of consumers."""
    dots = Dots(
        title="Jobs a second through a worker channel",
        points=tuple(
            (f"worker_channel_{count}", "rate", f"{count} consumer{'s' if count > 1 else ''}") for count in (1, 2, 4)
        ),
    )
    return _panels(summary, dots)


def growth(summary: Summary) -> Figure | None:
    """group_sends a second by the number of processes, and of groups."""
    curves = [
        Curve(
            title="group_sends a second that all processes have",
            x_title="processes in the group, 10 members in each",
            points=tuple((count, f"growth_processes_{count}") for count in (1, 2, 4, 8, 16)),
            figure="sends",
        ),
        Curve(
            title="group_sends a second to many groups in turn",
            x_title="groups in the receiving process",
            points=tuple((count, f"growth_groups_{count}") for count in (10, 1_000, 10_000, 100_000)),
            figure="rate",
        ),
    ]
    found = [curve for curve in curves if curve.found(summary)]
    return _curves(summary, found) if found else None


PLOTS: dict[str, Callable[[Summary], Figure | None]] = {
    "one-way": one_way,
    "latency": latency,
    "fan-out": fan_out,
    "worker-channel": worker_channel,
    "growth": growth,
}


def _panels(summary: Summary, *panels: Dots) -> Figure | None:
    """Beside each other, with the same layers in all, in the order of the first one."""
    layers = list(dict.fromkeys(layer for panel in panels for layer in panel.layers(summary)))
    if not layers:
        return None
    figure = Figure(
        figsize=(WIDTH if len(panels) == 1 else WIDTH * 1.3, 1.5 + 0.34 * len(layers)), layout="constrained"
    )
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        draw_dots(axis, panel, summary, layers=layers)
    for axis in axes[1:]:
        axis.set_yticklabels([])  # They stand before the first panel.
    draw_legend(figure, summary)
    return figure


def _curves(summary: Summary, curves: list[Curve]) -> Figure:
    figure = Figure(figsize=(WIDTH * 1.3 if len(curves) > 1 else WIDTH, 5.4), layout="constrained")
    for axis, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        draw_curves(axis, curve, summary)
    draw_legend(figure, summary)
    return figure


def draw_all(summary: Summary, folder: Path) -> Iterator[Path]:
    """Every plot for which there are figures; the files that were written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in PLOTS.items():
        with mpl.rc_context(STYLE):
            figure = make(summary)
            if figure is None:
                continue
            for kind in ("svg", "png"):
                path = folder / f"{name}.{kind}"
                # Without a date and with ids of one kind: the same figures make the same file.
                figure.savefig(path, dpi=110, metadata={"Date": None} if kind == "svg" else None)
                yield path
