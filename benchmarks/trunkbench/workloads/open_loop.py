"""Two processes at a fixed rate, whatever comes of it: how long each message takes from the moment it was due."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from channels.exceptions import ChannelFull

from trunkbench.figures import Bench, Figure, Sample, Workload, clock, crosses_processes, median, percentile
from trunkbench.layer import PATIENCE_SECONDS, Layer, Message, make_message, running, settle, until_received
from trunkbench.ledger import Ledger
from trunkbench.link import Link
from trunkbench.pacing import Metronome

# Messages a second, and for how many times as long as other measurements take. The plain one is compared by its slowest
# hundredth: of a thousand messages that is ten, and one pause of the machine's makes as many late.
PLAIN = 2_000
RATES = {PLAIN: 3, 500: 2, 10_000: 2}
# Connections, caches and the allocator are as they will stay.
WARM_UP_SECONDS = 0.25
# Who is later than this with the last tenth of the messages does not keep up: its backlog grows, and with it each
# percentile the longer one measures.
BEHIND_SECONDS = 0.1
# Nor does who has not yet taken what was due in this time: no more is sent then.
BACKLOG_SECONDS = 0.3


async def reader(layer: Layer, link: Link, *, warm_up: int) -> None:
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
            judged = late[warm_up:] or late or [PATIENCE_SECONDS]
            figures = {name: found * 1e3 for name, found in _shares(judged).items()}
            behind = median(judged[-max(1, len(judged) // 10) :]) > BEHIND_SECONDS
            # Each message is sent by a task of its own, and there is no order among calls that are under way at once.
            account = replace(ledger.close([order.data["sent"]]), disordered=0)
            link.tell("read", figures=figures, behind=behind, account=account)


def _shares(late: list[float]) -> dict[str, float]:
    return {"median": median(late), "p99": percentile(late, 0.99), "p999": percentile(late, 0.999)}


class Sender:
    """Sends each message at its time, without waiting for those before it, until too many are under way."""

    def __init__(self, layer: Layer, *, channel: str, rate: float) -> None:
        self._layer = layer
        self._channel = channel
        self._rate = rate
        self._under_way = 0

    async def send(self, count: int) -> int:
        """This many; return how many it were."""
        started, most = clock(), self._rate * BACKLOG_SECONDS
        with Metronome() as metronome:
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    due = started + number / self._rate
                    await metronome.until(due)
                    if self._under_way > most:
                        return number
                    self._under_way += 1
                    group.create_task(self._send({**make_message(0, number), "due": due}))
        return count

    async def _send(self, message: Message) -> None:
        while True:
            try:
                await self._layer.send(self._channel, message)
                break
            except ChannelFull:
                await asyncio.sleep(0)
        self._under_way -= 1


async def sender(layer: Layer, link: Link, *, channel: str, rate: float) -> None:
    """The process of the sender."""
    link.tell("ready")
    async for order in link.orders():
        started = clock()
        sent = await Sender(layer, channel=channel, rate=rate).send(order.data["count"])
        link.tell("sent", took=clock() - started, sent=sent)


def measure(bench: Bench, *, rate: int, length: float) -> Sample:
    """A reader and a sender, for `length` times as long as other measurements take."""
    warm_up = int(rate * WARM_UP_SECONDS)
    count = warm_up + int(rate * bench.seconds * length)
    with bench.crew() as crew:
        target = crew.start(reader, warm_up=warm_up)
        channel = target.expect("ready", within=30)["channel"]
        source = crew.start(sender, channel=channel, rate=rate)
        source.expect("ready", within=30)
        source.say("send", count=count)
        answer = source.expect("sent", within=60 + bench.seconds * 20)
        sent, took = answer["sent"], answer["took"]
        target.say("read", sent=sent)
        read = target.expect("read", within=120)
        note = "overloaded" if sent < count or read["behind"] or took > count / rate * 1.05 else None
        return Sample(figures={**read["figures"], "rate": sent / took}, account=read["account"], amount=sent, note=note)


WORKLOADS = tuple(
    Workload(
        name="open_loop" if rate == PLAIN else f"open_loop_{rate}",
        title=f"{rate:,} messages/s to another process, each at its time",
        figures=(
            Figure(name="median", title="median", unit="ms", better="lower"),
            Figure(name="p99", title="p99", unit="ms", better="lower"),
            Figure(name="p999", title="p99.9", unit="ms", better="lower"),
            Figure(name="rate", title="messages/s", unit="/s"),
        ),
        measure=partial(measure, rate=rate, length=length),
        suits=crosses_processes,
        series=rate != PLAIN,
        variants=rate == PLAIN,
        factor=1.1 * length,
    )
    for rate, length in RATES.items()
)
