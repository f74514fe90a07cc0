"""group_send to the members of one group, in one process or several: deliveries a second."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from trunkbench.crew import SPAWN, Crew, Member
from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, clock, crosses_processes
from trunkbench.joining import join_all
from trunkbench.layer import PATIENCE_SECONDS, Layer, make_message, running, settle, until_received
from trunkbench.ledger import Account, Ledger, add_up
from trunkbench.link import Link, readable

# (members, processes)
SIZES = ((1_000, 1), (100, 1), (10_000, 1), (100, 4), (1_000, 4), (10_000, 4))
# group_sends that not yet all members have. Far under the default capacity of 100, and under what Redis holds back
# for a subscriber.
WINDOW = 8
JOINED_WITHIN, READY_WITHIN = 10.0, 25.0
# Deliveries a second of a layer that is slow and not deaf.
SLOW = 2_000


class Audience:
    """Members of one group; calls `complete` when all of them have a message."""

    def __init__(self, layer: Layer, *, group: str, size: int, complete: Callable[[], None]) -> None:
        self.ledger = Ledger(senders=size)
        self._layer = layer
        self._group = group
        self._size = size
        self._complete = complete
        self._heard: dict[int, int] = defaultdict(int)
        self._channels: list[str] = []

    async def join(self) -> None:
        """Make the members and add them to the group."""
        self._channels = [await self._layer.new_channel() for _ in range(self._size)]
        joins = ((self._group, channel) for channel in self._channels)
        await join_all(self._layer, joins, count=self._size, within=JOINED_WITHIN)
        await settle(self._layer, self._channels[-1])

    def listening(self) -> list[Coroutine[Any, Any, None]]:
        """The lives of the members."""
        return [self._listen(index) for index in range(self._size)]

    async def _listen(self, index: int) -> None:
        receive, ledger, heard, size = self._layer.receive, self.ledger, self._heard, self._size
        channel = self._channels[index]
        while True:
            number = (await receive(channel))["n"]
            ledger.note(index, number)
            ledger.last_at = clock()
            heard[number] += 1
            if heard[number] == size:
                del heard[number]
                self._complete()

    def account(self, sent: int) -> Account:
        """The ledger, when this many group_sends were made."""
        return self.ledger.close([sent] * self._size)


class Window:
    """Bounds the group_sends that are under way to audiences in several processes."""

    def __init__(self, *, size: int, audiences: int = 1) -> None:
        self._patience = PATIENCE_SECONDS + size / SLOW
        self._free = asyncio.Event()
        self._sent = 0
        self._done = [0] * audiences

    def open_one(self, audience: int = 0) -> None:
        """One more is complete there."""
        self._done[audience] += 1
        self._free.set()

    async def take(self) -> None:
        """Wait for room and use it."""
        await self._until(WINDOW - 1)
        self._sent += 1

    async def drain(self) -> None:
        """Wait until all are complete."""
        await self._until(0)

    def forgive(self) -> None:
        """Wait no more for what has stayed away; what is sent from now on has the whole window again."""
        self._done = [max(done, self._sent) for done in self._done]

    async def _until(self, under_way: int) -> None:
        while self._sent - min(self._done) > under_way:
            self._free.clear()
            async with asyncio.timeout(self._patience):
                await self._free.wait()


async def send_windowed(layer: Layer, group: str, *, numbers: range, window: Window) -> int:
    """group_send these numbers; return how many, when all members have them or when a delivery stays away."""
    sent = 0
    try:
        for number in numbers:
            await window.take()
            await layer.group_send(group, make_message(0, number))
            sent += 1
        await window.drain()
    except TimeoutError:
        window.forgive()  # The members' ledger says what is missing.
    return sent


async def members(layer: Layer, link: Link, *, group: str, size: int, acknowledge: Connection[Any, Any]) -> None:
    """A process of members."""
    audience = Audience(layer, group=group, size=size, complete=lambda: acknowledge.send_bytes(b"1"))
    await audience.join()
    async with running(audience.listening()):
        link.tell("ready")
        base = 0
        async for order in link.orders():
            ledger = audience.ledger
            await until_received(ledger, order.data["sent"] * size, patience=PATIENCE_SECONDS)
            account = audience.account(order.data["sent"])
            link.tell("report", last_at=ledger.last_at, count=ledger.received - base, account=account)
            base = ledger.received


async def sender(
    layer: Layer, link: Link, *, group: str, size: int, acknowledged: Sequence[Connection[Any, Any]]
) -> None:
    """The process of the sender."""
    window = Window(size=size, audiences=len(acknowledged))

    async def watch(audience: int) -> None:
        pipe = acknowledged[audience]
        while True:
            await readable(pipe)
            while pipe.poll():
                pipe.recv_bytes()
                window.open_one(audience)

    sent = 0
    async with running(watch(audience) for audience in range(len(acknowledged))):
        link.tell("ready")
        async for order in link.orders():
            first_at = clock()
            sent += await send_windowed(layer, group, numbers=range(sent, sent + order.data["count"]), window=window)
            link.tell("sent", first_at=first_at, sent=sent)


class Room:
    """The processes of one measurement, and the batches they play."""

    def __init__(self, crew: Crew, *, group: str, sizes: Sequence[int]) -> None:
        # Open until the room is gone: an audience that ends first would look like one that failed.
        self._pipes = pipes = [SPAWN.Pipe(duplex=False) for _ in sizes]
        self._audiences: list[Member] = [
            crew.start(members, group=group, size=size, acknowledge=tells)
            for size, (_, tells) in zip(sizes, pipes, strict=True)
        ]
        hearing = [hears for hears, _ in pipes]
        self._source = crew.start(sender, group=group, size=sum(sizes), acknowledged=hearing)
        for process in (*self._audiences, self._source):
            process.expect("ready", within=READY_WITHIN)
        self.received = 0
        self.seconds = 0.0
        """From the first send to the last delivery of the latest batch."""
        self.account = Account()

    def batch(self, count: int) -> float:
        """group_send this often; return the seconds with the wait for what was lost, which is waited for once."""
        started = clock()
        self._source.say("send", count=count)
        sent = self._source.expect("sent", within=60)
        for audience in self._audiences:
            audience.say("report", sent=sent["sent"])
        reports = [audience.expect("report", within=60) for audience in self._audiences]
        self.received = sum(report["count"] for report in reports)
        self.account = add_up(report["account"] for report in reports)
        self.seconds = max(report["last_at"] for report in reports) - sent["first_at"]
        return clock() - started


def measure(bench: Bench, *, size: int, processes: int) -> Sample:
    """This many members, spread over so many processes, and one that sends."""
    with bench.crew() as crew:
        room = Room(crew, group=f"{bench.run_id}.room", sizes=[size // processes] * processes)
        first = 4 if size <= 1_000 else 1
        count, _ = Pace(first=first, limit=20_000, seconds=bench.seconds).measure(room.batch)
        rate = room.received / room.seconds
        figures = {"rate": rate, "sends": rate / size}
        return Sample(figures=figures, account=room.account, amount=count * size)


def figures() -> tuple[Figure, ...]:
    """What a room yields."""
    rate = Figure(name="rate", title="deliveries/s", unit="/s")
    return (rate, Figure(name="sends", title="group_sends/s that all have", unit="/s"))


def name_of(size: int, *, processes: int) -> str:
    """The plain name is that of 1,000 members in one process."""
    named = f"_{size}" if size != 1_000 else ""
    return f"fan_out{named}" + (f"_in_{processes}" if processes > 1 else "")


WORKLOADS = tuple(
    Workload(
        name=name_of(size, processes=processes),
        title=f"group_send to {size:,} members in {'four' if processes > 1 else 'another'} process"
        + ("es" if processes > 1 else ""),
        figures=figures(),
        measure=partial(measure, size=size, processes=processes),
        suits=crosses_processes,
        series=(size, processes) != (1_000, 1),
        variants=(size, processes) == (1_000, 1),
        fixed=1.1 + size / 2_500 + processes / 3,
    )
    for size, processes in SIZES
)
