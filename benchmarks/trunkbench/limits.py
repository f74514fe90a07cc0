"""Which limit of the machine stands behind which figure, and what share of it a layer reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Place(NamedTuple):
    """A figure of a workload."""

    workload: str
    figure: str


# What one message takes through each engine, and there and back.
ONE_WAY: Mapping[str, Place] = {
    "sqlite": Place("bare_sqlite", "rows"),
    "postgres": Place("bare_postgres", "rate"),
    "rabbitmq": Place("bare_rabbitmq", "rate"),
    "redis": Place("bare_redis", "rate"),
}
THERE_AND_BACK: Mapping[str, Place] = {
    "sqlite": Place("bare_datagram", "median"),
    "postgres": Place("bare_postgres", "median"),
    "rabbitmq": Place("bare_rabbitmq", "median"),
    "redis": Place("bare_redis", "median"),
}
# Each delivery wakes a task, whatever the message came through.
DELIVERIES = dict.fromkeys(("sqlite", "postgres", "rabbitmq", "redis", "process"), Place("bare_futures", "rate"))
ALONE: Mapping[str, Place] = {"sqlite": Place("bare_sqlite", "commits")}
WAITING = dict.fromkeys(DELIVERIES, Place("bare_idle", "traced"))

LIMITS: Mapping[Place, Mapping[str, Place]] = {
    **{Place(f"one_way_{tasks}", "rate"): ONE_WAY for tasks in (1, 32, 256)},
    **{Place(f"worker_channel_{processes}", "rate"): ONE_WAY for processes in (1, 2, 4)},
    **{Place(f"growth_groups_{groups}", "rate"): ONE_WAY for groups in (10, 1_000, 10_000, 100_000)},
    **{Place(f"fan_out{size}{more}", "rate"): DELIVERIES for size in ("_100", "", "_10000") for more in ("", "_in_4")},
    Place("one_process_fan_out", "rate"): DELIVERIES,
    Place("round_trip", "median"): THERE_AND_BACK,
    Place("from_idle", "median"): THERE_AND_BACK,
    Place("sync_api", "rate"): ALONE,
    Place("async_to_sync", "rate"): ALONE,
    Place("idle", "traced"): WAITING,
}


def limit_of(workload: str, figure: str, *, engine: str) -> Place | None:
    """The limit of this figure for a layer on this engine, if one makes sense."""
    return LIMITS.get(Place(workload, figure), {}).get(engine)


def share(value: float, limit: float, *, better: str) -> float | None:
    """1.0 for a layer that costs nothing."""
    top, bottom = (value, limit) if better == "higher" else (limit, value)
    return top / bottom if bottom else None
