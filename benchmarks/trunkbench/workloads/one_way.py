"""One way between two processes: messages a second, from the first send to the last receive."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from channels.exceptions import ChannelFull

from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, clock, crosses_processes
from trunkbench.layer import (
    PATIENCE_SECONDS,
    PAYLOAD,
    Layer,
    collect,
    make_message,
    running,
    settle,
    until_received,
)
from trunkbench.ledger import Account, Ledger
from trunkbench.link import Link


async def receiver(layer: Layer, link: Link, *, senders: int) -> None:
    """Receive on one channel and keep the ledger."""
    channel, ledger = await layer.new_channel(), Ledger(senders=senders)
    await settle(layer, channel)
    async with running([collect(layer, channel, ledger=ledger)]):
        link.tell("ready", channel=channel)
        base = 0
        async for order in link.orders():
            if order.kind == "expect":
                await until_received(ledger, base + order.data["count"], patience=PATIENCE_SECONDS)
                link.tell("received", last_at=ledger.last_at, count=ledger.received - base)
                base = ledger.received
            else:
                await asyncio.sleep(0.2)  # A late duplicate would come now.
                link.tell("account", account=ledger.close(order.data["sent"]))


async def send_numbered(layer: Layer, channel: str, *, sender: int, numbers: range, payload: str) -> None:
    """Send these numbers; a full channel is tried again after a turn of the loop."""
    send = layer.send
    for number in numbers:
        message = make_message(sender, number, payload=payload)
        while True:
            try:
                await send(channel, message)
                break
            except ChannelFull:
                await asyncio.sleep(0)


async def sender(layer: Layer, link: Link, *, channel: str, tasks: int, size: int = len(PAYLOAD)) -> None:
    """Send batches, shared out among the tasks."""
    sent, payload = [0] * tasks, "x" * size
    link.tell("ready")
    async for order in link.orders():
        share = max(1, order.data["count"] // tasks)
        first_at = clock()
        async with asyncio.TaskGroup() as group:
            for index, start in enumerate(sent):
                numbers = range(start, start + share)
                group.create_task(send_numbered(layer, channel, sender=index, numbers=numbers, payload=payload))
        sent = [start + share for start in sent]
        link.tell("sent", first_at=first_at, count=share * tasks, totals=sent)


def measure(bench: Bench, *, tasks: int, size: int) -> Sample:
    """Two processes, one channel, `tasks` sender tasks."""
    with bench.crew() as crew:
        target = crew.start(receiver, senders=tasks)
        channel = target.expect("ready", within=30)["channel"]
        source = crew.start(sender, channel=channel, tasks=tasks, size=size)
        source.expect("ready", within=30)
        state: dict[str, Any] = {}

        def batch(count: int) -> float:
            count = max(1, count // tasks) * tasks
            target.say("expect", count=count)
            source.say("send", count=count)
            state["sent"] = source.expect("sent", within=120)
            state["received"] = target.expect("received", within=120)
            return float(state["received"]["last_at"] - state["sent"]["first_at"])

        count, seconds = Pace(first=10 * tasks, limit=200_000, seconds=bench.seconds).measure(batch)
        target.say("close", sent=state["sent"]["totals"])
        account: Account = target.expect("account", within=30)["account"]
        rate = state["received"]["count"] / seconds
        return Sample(figures={"rate": rate}, account=account, amount=count)


def _row(tasks: int, *, size: int, name: str, words: str) -> Workload:
    return Workload(
        name=f"one_way_{tasks}{name}",
        title=f"One way between two processes, {tasks} sender task{'s' if tasks > 1 else ''}{words}",
        figures=(Figure(name="rate", title="messages/s", unit="/s"),),
        measure=partial(measure, tasks=tasks, size=size),
        suits=crosses_processes,
        series=bool(name) or tasks == 256,
        variants=tasks == 32 and not name,
    )


WORKLOADS = (
    *(_row(tasks, size=len(PAYLOAD), name="", words="") for tasks in (32, 1, 256)),
    *(_row(tasks, size=4096, name="_4k", words=", 4 KB each") for tasks in (32, 1, 256)),
)
