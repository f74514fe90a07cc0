"""group_send to 1,000 members in another process: deliveries a second."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from multiprocessing.connection import Connection
from typing import Any

from trunkbench.crew import SPAWN
from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, clock, crosses_processes
from trunkbench.layer import PATIENCE_SECONDS, Layer, make_message, running, settle
from trunkbench.ledger import Account, Ledger
from trunkbench.link import Link, readable

MEMBERS = 1_000
# group_sends that not yet all members have. Far under the default capacity of 100, and under what Redis holds back
# for a subscriber.
WINDOW = 8


class Audience:
    """1,000 members of one group; calls `complete` when all of them have a message."""

    def __init__(self, layer: Layer, *, group: str, complete: Any) -> None:
        self.ledger = Ledger(senders=MEMBERS)
        self._layer = layer
        self._group = group
        self._complete = complete
        self._heard: dict[int, int] = defaultdict(int)
        self.channels: list[str] = []

    async def join(self) -> None:
        """Make the members and add them to the group."""
        for _ in range(MEMBERS):
            channel = await self._layer.new_channel()
            await self._layer.group_add(self._group, channel)
            self.channels.append(channel)
        await settle(self._layer, self.channels[-1])

    async def listen(self, index: int) -> None:
        """The life of one member."""
        receive, ledger, heard = self._layer.receive, self.ledger, self._heard
        channel = self.channels[index]
        while True:
            number = (await receive(channel))["n"]
            ledger.note(index, number)
            ledger.last_at = clock()
            heard[number] += 1
            if heard[number] == MEMBERS:
                del heard[number]
                self._complete()

    def account(self, sent: int) -> Account:
        """The ledger, when this many group_sends were made."""
        return self.ledger.close([sent] * MEMBERS)


class Window:
    """Bounds the group_sends that are under way."""

    def __init__(self) -> None:
        self._free = asyncio.Event()
        self._sent = 0
        self._done = 0

    def open_one(self) -> None:
        """One more is complete."""
        self._done += 1
        self._free.set()

    async def take(self) -> None:
        """Wait for room and use it."""
        await self._until(WINDOW - 1)
        self._sent += 1

    async def drain(self) -> None:
        """Wait until all are complete."""
        await self._until(0)

    async def _until(self, under_way: int) -> None:
        while self._sent - self._done > under_way:
            self._free.clear()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._free.wait()


async def send_windowed(layer: Layer, group: str, *, numbers: range, window: Window) -> None:
    """group_send these numbers; return when all members have all of them or when a delivery stays away."""
    try:
        for number in numbers:
            await window.take()
            await layer.group_send(group, make_message(0, number))
        await window.drain()
    except TimeoutError:
        pass  # The members' ledger says what is missing.


async def members(layer: Layer, link: Link, *, group: str, acknowledge: Connection[Any, Any]) -> None:
    """The process of the members."""
    audience = Audience(layer, group=group, complete=lambda: acknowledge.send_bytes(b"1"))
    await audience.join()
    async with running(audience.listen(index) for index in range(MEMBERS)):
        link.tell("ready")
        base = 0
        async for order in link.orders():
            ledger = audience.ledger
            account = audience.account(order.data["sent"])
            link.tell("report", last_at=ledger.last_at, count=ledger.received - base, account=account)
            base = ledger.received


async def sender(layer: Layer, link: Link, *, group: str, acknowledged: Connection[Any, Any]) -> None:
    """The process of the sender."""
    window = Window()

    async def watch() -> None:
        while True:
            await readable(acknowledged)
            while acknowledged.poll():
                acknowledged.recv_bytes()
                window.open_one()

    sent = 0
    async with running([watch()]):
        link.tell("ready")
        async for order in link.orders():
            numbers, first_at = range(sent, sent + order.data["count"]), clock()
            await send_windowed(layer, group, numbers=numbers, window=window)
            sent = numbers.stop
            link.tell("sent", first_at=first_at, sent=sent)


def measure(bench: Bench) -> Sample:
    """Two processes: the members and the sender."""
    group = f"{bench.run_id}.room"
    hears, tells = SPAWN.Pipe(duplex=False)
    with bench.crew() as crew:
        audience = crew.start(members, group=group, acknowledge=tells)
        source = crew.start(sender, group=group, acknowledged=hears)
        audience.expect("ready", within=60)
        source.expect("ready", within=60)
        report: dict[str, Any] = {}

        def batch(count: int) -> float:
            source.say("send", count=count)
            sent = source.expect("sent", within=120)
            audience.say("report", sent=sent["sent"])
            report.update(audience.expect("report", within=30))
            return float(report["last_at"] - sent["first_at"])

        count, seconds = Pace(first=4, limit=20_000, seconds=bench.seconds).measure(batch)
        return Sample(figures={"rate": report["count"] / seconds}, account=report["account"], amount=count * MEMBERS)


WORKLOADS = (
    Workload(
        name="fan_out",
        title="group_send to 1,000 members in another process",
        figures=(Figure(name="rate", title="deliveries/s", unit="/s"),),
        measure=measure,
        suits=crosses_processes,
    ),
)
