"""What a run found, in short: the medians and extremes, the faults of the ledgers, the shares of the limits.

Tables and plots are made of it, and so are those of the documentation: it is small enough to be kept there.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Self

from trunkbench.ledger import Account, add_up
from trunkbench.limits import limit_of, share


@dataclasses.dataclass(frozen=True)
class Spread:
    """One figure over the rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """With as many digits as mean something."""
        return cls(*(float(f"{each:.4g}") for each in (statistics.median(values), min(values), max(values))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One workload with one layer."""

    workload: str
    layer: str
    rounds: int
    figures: Mapping[str, Spread]
    faults: str = ""
    """What the ledgers say, in words; empty when all was delivered, once and in order."""
    note: str = ""
    error: str = ""
    """Why a round failed."""
    limit: str = ""
    share: float | None = None
    """Of the limit, by the first figure that has one."""

    @property
    def marked(self) -> str:
        """Everything that a reader of the figure must know; empty for a figure without a fault."""
        return "; ".join(filter(None, (self.faults, self.note, self.error)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """What is said about a layer."""

    label: str
    engine: str
    ours: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """All of a run."""

    date: str
    options: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    left_out: Mapping[str, str]
    layers: Mapping[str, Layer]
    workloads: Mapping[str, Mapping[str, Any]]
    """Title and figures of each."""
    rows: Sequence[Row]
    targets: Sequence[Mapping[str, Any]]

    def row(self, workload: str, layer: str) -> Row | None:
        """The outcome of one workload with one layer."""
        return next((each for each in self.rows if (each.workload, each.layer) == (workload, layer)), None)

    def rows_of(self, workload: str) -> list[Row]:
        """All layers of one workload."""
        return [each for each in self.rows if each.workload == workload]

    def median(self, workload: str, layer: str, figure: str) -> float | None:
        """One figure."""
        row = self.row(workload, layer)
        return row.figures[figure].median if row and figure in row.figures else None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From all samples, as run.py writes them."""
        kept = ("date", "options", "machine", "versions", "left_out", "workloads", "targets")
        layers = {name: Layer(**layer) for name, layer in data["layers"].items()}
        rows = [_row(result) for result in data["results"]]
        bare = {(row.workload, name): each.median for row in rows for name, each in row.figures.items()}
        rows = [_with_share(row, layers[row.layer], data["workloads"], bare) for row in rows]
        return cls(**{name: data[name] for name in kept}, layers=layers, rows=rows)

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        """From what as_data() made."""
        layers = {name: Layer(**layer) for name, layer in data["layers"].items()}
        rows = [
            Row(**{**row, "figures": {name: Spread(*three) for name, three in row["figures"].items()}})
            for row in data["rows"]
        ]
        return cls(**{**data, "layers": layers, "rows": rows})

    def as_data(self) -> dict[str, Any]:
        """For JSON; what is empty is left out of each row."""
        return {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "layers": {name: dataclasses.asdict(layer) for name, layer in self.layers.items()},
            "rows": [_row_data(row) for row in self.rows],
        }

    def as_text(self) -> str:
        """The same as JSON, with a line for each row, so that two runs can be compared."""
        data = self.as_data()
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in data.pop("rows"))
        return f'{json.dumps(data, ensure_ascii=False, indent=1)[:-2]},\n "rows": [\n{rows}\n ]\n}}\n'


def _row(result: Mapping[str, Any]) -> Row:
    samples = result["samples"]
    values: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample["figures"].items():
            values.setdefault(name, []).append(value)
    errors = [sample["error"] for sample in samples if sample["error"]]
    notes = dict.fromkeys(sample["note"] for sample in samples if sample["note"])
    return Row(
        workload=result["workload"],
        layer=result["layer"],
        rounds=len(samples),
        figures={name: Spread.of(found) for name, found in values.items()},
        faults=add_up(Account(**sample["account"]) for sample in samples).describe(),
        note=", ".join(notes),
        error=_error_words(errors, rounds=len(samples)),
    )


def _error_words(errors: Sequence[str], *, rounds: int) -> str:
    if not errors:
        return ""
    # What a group of tasks failed of stands in a frame.
    first, *more = (words for line in errors[0].splitlines() if (words := line.strip(" |+-")))
    # A process that ends by itself says why in its last line.
    reason = more[-1] if "exit status" in first and more else first.rpartition(" (")[0] or first
    return f"{len(errors)} of {rounds} failed: {reason[:80]}"


def _with_share(row: Row, layer: Layer, workloads: Mapping[str, Any], bare: Mapping[tuple[str, str], float]) -> Row:
    for figure in workloads[row.workload]["figures"]:
        place, spread = limit_of(row.workload, figure["name"], engine=layer.engine), row.figures.get(figure["name"])
        if place in bare and place is not None and spread is not None:
            found = share(spread.median, bare[place], better=figure["better"])
            return dataclasses.replace(row, limit=place.workload, share=found and float(f"{found:.3g}"))
    return row


def _row_data(row: Row) -> dict[str, Any]:
    data = dataclasses.asdict(row) | {"figures": {name: dataclasses.astuple(s) for name, s in row.figures.items()}}
    return {name: value for name, value in data.items() if value not in ("", None)}
