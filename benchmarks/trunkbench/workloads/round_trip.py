"""Round trip between two processes, busy: the next ping follows the pong at once."""

from __future__ import annotations

from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, clock, crosses_processes, median, percentile
from trunkbench.layer import Layer, make_message, running, settle, unless_silent
from trunkbench.ledger import Ledger
from trunkbench.link import Link


async def echo(layer: Layer, link: Link) -> None:
    """Send each message back to the channel it names."""
    channel = await layer.new_channel()
    await settle(layer, channel)

    async def answer() -> None:
        while True:
            message = await layer.receive(channel)
            await layer.send(message["reply"], make_message(0, message["n"]))

    async with running([answer()]):
        link.tell("ready", channel=channel)
        async for _ in link.orders():
            pass


async def _ping(layer: Layer, target: str, *, own: str, numbers: range, ledger: Ledger) -> list[float]:
    taken = []
    for number in numbers:
        started = clock()
        await layer.send(target, {**make_message(0, number), "reply": own})
        message = await layer.receive(own)
        taken.append(clock() - started)
        ledger.note(0, message["n"])
    return taken


async def caller(layer: Layer, link: Link, *, target: str) -> None:
    """Play ping-pong; a pong that stays away ends the batch."""
    own, ledger, sent = await layer.new_channel(), Ledger(senders=1), 0
    await settle(layer, own)
    link.tell("ready")
    async for order in link.orders():
        count, started = order.data["count"], clock()
        try:
            numbers = range(sent, sent + count)
            taken = await unless_silent(_ping(layer, target, own=own, numbers=numbers, ledger=ledger), ledger)
        except TimeoutError:
            link.tell("failed", error=f"a pong was lost: {ledger.received - sent} of {count} came")
            return
        sent += count
        figures = {"median": median(taken) * 1e3, "p99": percentile(taken, 0.99) * 1e3}
        link.tell("played", took=clock() - started, figures=figures, account=ledger.close([sent]))


def measure(bench: Bench) -> Sample:
    """Two processes, a channel each."""
    with bench.crew() as crew:
        wall = crew.start(echo)
        target = wall.expect("ready", within=30)["channel"]
        player = crew.start(caller, target=target)
        player.expect("ready", within=30)
        played: dict[str, object] = {}

        def batch(count: int) -> float:
            player.say("play", count=count)
            answer = player.expect("played", within=60 + bench.seconds * 10)
            played.update(answer)
            return float(answer["took"])

        count, _ = Pace(first=10, limit=100_000, seconds=bench.seconds).measure(batch)
        return Sample(figures=played["figures"], account=played["account"], amount=count)  # type: ignore[arg-type]


WORKLOADS = (
    Workload(
        name="round_trip",
        title="Round trip between two processes, busy",
        figures=(
            Figure(name="median", title="median", unit="ms", better="lower"),
            Figure(name="p99", title="p99", unit="ms", better="lower"),
        ),
        measure=measure,
        suits=crosses_processes,
        variants=True,
    ),
)
