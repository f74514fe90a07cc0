"""Within one process and one loop: a send and its receive, and group_send to 1,000 local members."""

from __future__ import annotations

from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, any_layer, clock
from trunkbench.layer import PATIENCE_SECONDS, Layer, make_message, running, settle, until_received
from trunkbench.ledger import Ledger
from trunkbench.link import Link
from trunkbench.workloads.fan_out import Audience, Window, send_windowed

MEMBERS = 1_000


async def pair(layer: Layer, link: Link, *, seconds: float) -> None:
    """Send one message to a channel and receive it, again and again."""
    channel, ledger, sent = await layer.new_channel(), Ledger(senders=1), 0
    await settle(layer, channel)

    async def batch(count: int) -> float:
        nonlocal sent
        send, receive = layer.send, layer.receive
        started = clock()
        for number in range(sent, sent + count):
            await send(channel, make_message(0, number))
            ledger.note(0, (await receive(channel))["n"])
        sent += count
        return clock() - started

    count, took = await Pace(first=10, limit=1_000_000, seconds=seconds).measure_async(batch)
    link.tell("done", figures={"rate": count / took}, account=ledger.close([sent]), amount=count)


async def room(layer: Layer, link: Link, *, seconds: float, group: str) -> None:
    """1,000 tasks in receive() and one that sends to their group, on one loop."""
    window, sent = Window(size=MEMBERS), 0
    audience = Audience(layer, group=group, size=MEMBERS, complete=window.open_one)
    await audience.join()

    async def batch(count: int) -> float:
        nonlocal sent
        received, started = audience.ledger.received, clock()
        done = await send_windowed(layer, group, numbers=range(sent, sent + count), window=window)
        await until_received(audience.ledger, received + done * MEMBERS, patience=PATIENCE_SECONDS)
        sent += done
        return audience.ledger.last_at - started

    async with running(audience.listening()):
        count, took = await Pace(first=4, limit=20_000, seconds=seconds).measure_async(batch)
        amount = count * MEMBERS
        link.tell("done", figures={"rate": amount / took}, account=audience.account(sent), amount=amount)


def measure_pair(bench: Bench) -> Sample:
    """One process."""
    with bench.crew() as crew:
        process = crew.start(pair, seconds=bench.seconds)
        return Sample(**process.expect("done", within=60 + bench.seconds * 10))


def measure_room(bench: Bench) -> Sample:
    """One process."""
    with bench.crew() as crew:
        process = crew.start(room, seconds=bench.seconds, group=f"{bench.run_id}.room")
        return Sample(**process.expect("done", within=60 + bench.seconds * 10))


WORKLOADS = (
    Workload(
        name="one_process_pair",
        title="One process: a send and its receive, one after the other",
        figures=(Figure(name="rate", title="pairs/s", unit="/s"),),
        measure=measure_pair,
        suits=any_layer,
    ),
    Workload(
        name="one_process_fan_out",
        title="One process: group_send to 1,000 members, each a task in receive()",
        figures=(Figure(name="rate", title="deliveries/s", unit="/s"),),
        measure=measure_room,
        suits=any_layer,
    ),
)
