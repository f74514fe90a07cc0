"""A message of a megabyte to another process: from the call of send() to the return of receive()."""

from __future__ import annotations

from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, clock, crosses_processes, median, percentile
from trunkbench.layer import Layer, make_message, running, settle, unless_silent
from trunkbench.ledger import Ledger
from trunkbench.link import Link

LARGE = "x" * 1_000_000


async def reader(layer: Layer, link: Link) -> None:
    """Say when each message came, in a small one."""
    channel = await layer.new_channel()
    await settle(layer, channel)

    async def answer() -> None:
        while True:
            message = await layer.receive(channel)
            await layer.send(message["reply"], {**make_message(0, message["n"]), "at": clock()})

    async with running([answer()]):
        link.tell("ready", channel=channel)
        async for _ in link.orders():
            pass


async def _deliver(layer: Layer, target: str, *, own: str, numbers: range, ledger: Ledger) -> list[float]:
    taken = []
    for number in numbers:
        started = clock()
        await layer.send(target, {**make_message(0, number), "payload": LARGE, "reply": own})
        message = await layer.receive(own)
        taken.append(message["at"] - started)
        ledger.note(0, message["n"])
    return taken


async def writer(layer: Layer, link: Link, *, target: str) -> None:
    """Send one after the other; one that stays away ends the batch."""
    own, ledger, sent = await layer.new_channel(), Ledger(senders=1), 0
    await settle(layer, own)
    link.tell("ready")
    async for order in link.orders():
        count, started = order.data["count"], clock()
        try:
            numbers = range(sent, sent + count)
            taken = await unless_silent(_deliver(layer, target, own=own, numbers=numbers, ledger=ledger), ledger)
        except TimeoutError:
            link.tell("failed", error=f"a large message was lost: {ledger.received - sent} of {count} came")
            return
        sent += count
        figures = {"median": median(taken) * 1e3, "p99": percentile(taken, 0.99) * 1e3}
        link.tell("delivered", took=clock() - started, figures=figures, account=ledger.close([sent]))


def measure(bench: Bench) -> Sample:
    """Two processes, a channel each."""
    with bench.crew() as crew:
        target = crew.start(reader).expect("ready", within=30)["channel"]
        source = crew.start(writer, target=target)
        source.expect("ready", within=30)
        delivered: dict[str, object] = {}

        def batch(count: int) -> float:
            source.say("send", count=count)
            answer = source.expect("delivered", within=60 + bench.seconds * 10)
            delivered.update(answer)
            return float(answer["took"])

        count, _ = Pace(first=5, limit=10_000, seconds=bench.seconds).measure(batch)
        return Sample(figures=delivered["figures"], account=delivered["account"], amount=count)  # type: ignore[arg-type]


WORKLOADS = (
    Workload(
        name="large_message",
        title="A message of 1 MB to another process, one after the other",
        figures=(
            Figure(name="median", title="median", unit="ms", better="lower"),
            Figure(name="p99", title="p99", unit="ms", better="lower"),
        ),
        measure=measure,
        suits=crosses_processes,
    ),
)
