"""Two processes at a fixed rate: how long each message takes from the moment it was due."""

from __future__ import annotations

import asyncio

from channels.exceptions import ChannelFull

from trunkbench.figures import Bench, Figure, Sample, Workload, clock, crosses_processes, median, percentile
from trunkbench.layer import PATIENCE_SECONDS, Layer, Message, make_message, running, settle, until_received
from trunkbench.ledger import Ledger
from trunkbench.link import Link

RATE = 2_000
# Connections, caches and the allocator are as they will stay.
WARM_UP = 500


async def reader(layer: Layer, link: Link) -> None:
    """Note for each message how long after its time it came."""
    channel, ledger, late = await layer.new_channel(), Ledger(senders=1), list[float]()
    await settle(layer, channel)

    async def read() -> None:
        while True:
            message = await layer.receive(channel)
            late.append(clock() - message["due"])
            ledger.note(0, message["n"])

    async with running([read()]):
        link.tell("ready", channel=channel)
        async for order in link.orders():
            await until_received(ledger, order.data["sent"], patience=PATIENCE_SECONDS)
            judged = late[WARM_UP:] or late
            figures = {name: found * 1e3 for name, found in _shares(judged).items()}
            link.tell("read", figures=figures, account=ledger.close([order.data["sent"]]))


def _shares(late: list[float]) -> dict[str, float]:
    return {"median": median(late), "p99": percentile(late, 0.99), "p999": percentile(late, 0.999)}


async def sender(layer: Layer, link: Link, *, channel: str, count: int) -> None:
    """Send each message at its time, without waiting for those before it."""
    link.tell("ready")
    async for _ in link.orders():
        started = clock()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                due = started + number / RATE
                await asyncio.sleep(due - clock())
                group.create_task(_send(layer, channel, {**make_message(0, number), "due": due}))
        link.tell("sent", took=clock() - started)


async def _send(layer: Layer, channel: str, message: Message) -> None:
    while True:
        try:
            await layer.send(channel, message)
            return
        except ChannelFull:
            await asyncio.sleep(0)


def measure(bench: Bench) -> Sample:
    """A reader and a sender."""
    count = WARM_UP + int(RATE * bench.seconds * 2)
    with bench.crew() as crew:
        target = crew.start(reader)
        channel = target.expect("ready", within=30)["channel"]
        source = crew.start(sender, channel=channel, count=count)
        source.expect("ready", within=30)
        source.say("send")
        took = source.expect("sent", within=60 + bench.seconds * 20)["took"]
        target.say("read", sent=count)
        read = target.expect("read", within=60)
        figures = {**read["figures"], "rate": count / took}
        return Sample(figures=figures, account=read["account"], amount=count)


WORKLOADS = (
    Workload(
        name="open_loop",
        title=f"{RATE:,} messages/s to another process, each at its time",
        figures=(
            Figure(name="median", title="median", unit="ms", better="lower"),
            Figure(name="p99", title="p99", unit="ms", better="lower"),
            Figure(name="p999", title="p99.9", unit="ms", better="lower"),
            Figure(name="rate", title="messages/s", unit="/s"),
        ),
        measure=measure,
        suits=crosses_processes,
    ),
)
