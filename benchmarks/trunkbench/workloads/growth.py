"""How a layer grows: a group in 1 to 16 processes; a process with 10 to 100,000 groups."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from channels.exceptions import ChannelFull

from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, clock, crosses_processes
from trunkbench.joining import join_all
from trunkbench.layer import PATIENCE_SECONDS, Layer, collect, make_message, running, settle, until_received
from trunkbench.ledger import Ledger
from trunkbench.link import Link
from trunkbench.workloads import fan_out

PROCESSES = (1, 2, 4, 8, 16)
MEMBERS_EACH = 10
GROUPS = (10, 1_000, 10_000, 100_000)
# Receivers; each is in its share of the groups.
CHANNELS = 100
SENDERS = 8


def group_name(run_id: str, number: int) -> str:
    """The name of one of many groups."""
    return f"{run_id}.g{number}"


async def members(layer: Layer, link: Link, *, run_id: str, groups: int) -> None:
    """The process with the groups: each channel is in every so-many-th of them, and keeps a ledger of its own."""
    size = min(CHANNELS, groups)
    channels = [await layer.new_channel() for _ in range(size)]
    joins = ((group_name(run_id, number), channels[number % size]) for number in range(groups))
    started = clock()
    await join_all(layer, joins, count=groups)
    joined = groups / (clock() - started)
    await settle(layer, channels[-1])
    ledger = Ledger(senders=size)
    async with running(collect(layer, channel, ledger=ledger) for channel in channels):
        link.tell("ready", joins=joined)
        async for order in link.orders():
            if order.kind == "expect":
                await until_received(ledger, order.data["sent"], patience=PATIENCE_SECONDS)
                link.tell("received", last_at=ledger.last_at)
            else:
                link.tell("account", account=ledger.close(order.data["sent"]))


class Sender:
    """Sends to all groups in turn from several tasks; all that one channel gets is sent by one task, and in order."""

    def __init__(self, layer: Layer, *, run_id: str, groups: int) -> None:
        self._layer = layer
        self._run_id = run_id
        self._groups = groups
        self._size = min(CHANNELS, groups)
        self.sent = [0] * self._size

    async def send(self, count: int) -> None:
        """This many, in all."""
        share = count // self._size
        async with asyncio.TaskGroup() as tasks:
            for task in range(SENDERS):
                tasks.create_task(self._work(range(task, self._size, SENDERS), share=share))

    async def _work(self, channels: range, *, share: int) -> None:
        each = self._groups // self._size
        for _ in range(share):
            for channel in channels:
                number = self.sent[channel]
                group = group_name(self._run_id, channel + self._size * (number % each))
                await self._group_send(group, make_message(channel, number))
                self.sent[channel] = number + 1

    async def _group_send(self, group: str, message: dict[str, Any]) -> None:
        while True:
            try:
                await self._layer.group_send(group, message)
                return
            except ChannelFull:
                await asyncio.sleep(0)


async def sender(layer: Layer, link: Link, *, run_id: str, groups: int) -> None:
    """The process of the sender."""
    work = Sender(layer, run_id=run_id, groups=groups)
    link.tell("ready")
    async for order in link.orders():
        first_at, before = clock(), sum(work.sent)
        await work.send(order.data["count"])
        link.tell("sent", first_at=first_at, count=sum(work.sent) - before, totals=work.sent)


def measure_groups(bench: Bench, *, groups: int) -> Sample:
    """Two processes: one whose channels are in many groups, and one that sends to all of them in turn."""
    size = min(CHANNELS, groups)
    with bench.crew() as crew:
        target = crew.start(members, run_id=bench.run_id, groups=groups)
        source = crew.start(sender, run_id=bench.run_id, groups=groups)
        source.expect("ready", within=30)
        joins = target.expect("ready", within=45)["joins"]
        state: dict[str, Any] = {}

        def batch(count: int) -> float:
            source.say("send", count=max(count, size))
            state.update(source.expect("sent", within=60))
            target.say("expect", sent=sum(state["totals"]))
            return float(target.expect("received", within=120)["last_at"] - state["first_at"])

        count, seconds = Pace(first=10 * size, limit=200_000, seconds=bench.seconds).measure(batch)
        target.say("close", sent=state["totals"])
        account = target.expect("account", within=30)["account"]
        figures = {"rate": state["count"] / seconds, "joins": joins}
        return Sample(figures=figures, account=account, amount=count)


WORKLOADS = (
    *(
        Workload(
            name=f"growth_processes_{processes}",
            title=f"A group in {processes} process{'es' if processes > 1 else ''}, {MEMBERS_EACH} members in each",
            figures=fan_out.figures(),
            measure=partial(fan_out.measure, size=MEMBERS_EACH * processes, processes=processes),
            suits=crosses_processes,
            series=True,
            fixed=1.0 + processes / 4,
        )
        for processes in PROCESSES
    ),
    *(
        Workload(
            name=f"growth_groups_{groups}",
            title=f"group_send to {groups:,} groups in turn, in another process",
            figures=(
                Figure(name="rate", title="group_sends/s", unit="/s"),
                Figure(name="joins", title="joins/s before", unit="/s"),
            ),
            measure=partial(measure_groups, groups=groups),
            suits=crosses_processes,
            series=True,
            fixed=1.0 + min(10.0, groups / 4_000),
        )
        for groups in GROUPS
    ),
)
