"""The table of the workloads, in the order of the report."""

from __future__ import annotations

from trunkbench.figures import Workload
from trunkbench.workloads import (
    bare,
    bare_servers,
    fan_out,
    from_idle,
    group_add,
    group_discard,
    growth,
    idle,
    large_message,
    one_process,
    one_way,
    open_loop,
    round_trip,
    statements,
    sync_callers,
    worker_channel,
)

WORKLOADS: tuple[Workload, ...] = (
    *bare.WORKLOADS,
    *bare_servers.WORKLOADS,
    *one_way.WORKLOADS,
    *round_trip.WORKLOADS,
    *open_loop.WORKLOADS,
    *from_idle.WORKLOADS,
    *large_message.WORKLOADS,
    *fan_out.WORKLOADS,
    *group_add.WORKLOADS,
    *group_discard.WORKLOADS,
    *one_process.WORKLOADS,
    *sync_callers.WORKLOADS,
    *worker_channel.WORKLOADS,
    *statements.WORKLOADS,
    *idle.WORKLOADS,
    *growth.WORKLOADS,
)
