"""Two processes that have been idle for a moment: how long a single message takes."""

from __future__ import annotations

import asyncio
import random

from trunkbench.figures import Bench, Figure, Sample, Workload, clock, crosses_processes, median, percentile
from trunkbench.layer import PATIENCE_SECONDS, Layer, make_message, running, settle, until_received
from trunkbench.ledger import Ledger
from trunkbench.link import Link

# Long enough for a layer that polls to have come to rest, and never in step with its polling.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.3, 0.5


async def reader(layer: Layer, link: Link, *, count: int) -> None:
    """Note how long each message took."""
    channel, ledger, took = await layer.new_channel(), Ledger(senders=1), list[float]()
    await settle(layer, channel)

    async def read() -> None:
        while True:
            message = await layer.receive(channel)
            took.append(clock() - message["sent"])
            ledger.note(0, message["n"])

    async with running([read()]):
        link.tell("ready", channel=channel)
        async for _ in link.orders():
            await until_received(ledger, count, patience=PATIENCE_SECONDS)
            figures = {"median": median(took) * 1e3, "p90": percentile(took, 0.9) * 1e3}
            link.tell("read", figures=figures, account=ledger.close([count]))


async def sender(layer: Layer, link: Link, *, channel: str, count: int) -> None:
    """Send one message after each pause."""
    link.tell("ready")
    async for _ in link.orders():
        for number in range(count):
            await asyncio.sleep(random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE))
            await layer.send(channel, {**make_message(0, number), "sent": clock()})
        link.tell("sent")


def measure(bench: Bench) -> Sample:
    """Two processes, one channel."""
    count = max(5, int(bench.seconds * 20))
    with bench.crew() as crew:
        target = crew.start(reader, count=count)
        channel = target.expect("ready", within=30)["channel"]
        source = crew.start(sender, channel=channel, count=count)
        source.expect("ready", within=30)
        source.say("send")
        source.expect("sent", within=30 + count * 2 * LONGEST_PAUSE)
        target.say("read")
        read = target.expect("read", within=60)
        return Sample(figures=read["figures"], account=read["account"], amount=count)


WORKLOADS = (
    Workload(
        name="from_idle",
        title="One message between two processes that were idle",
        figures=(
            Figure(name="median", title="median", unit="ms", better="lower"),
            Figure(name="p90", title="90 % within", unit="ms", better="lower"),
        ),
        measure=measure,
        suits=crosses_processes,
        series=True,
        fixed=1.0,
        factor=8.0,
    ),
)
