"""group_discard in one process: leaves a second, and a check that those who left get nothing more."""

from __future__ import annotations

import asyncio

from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, any_layer, clock
from trunkbench.joining import TASKS, join_all
from trunkbench.layer import PATIENCE_SECONDS, Layer, make_message, settle
from trunkbench.ledger import Account, add_up
from trunkbench.link import Link

CHECKED = 50
SENT_BY_GROUP, SENT_DIRECTLY = 1, 2
Places = list[tuple[str, str]]


class Exit:
    """Takes channels out of groups of their own."""

    def __init__(self, layer: Layer, *, tasks: int, run_id: str) -> None:
        self._layer = layer
        self._tasks = tasks
        self._prefix = f"{run_id}.leave.{tasks}"
        self._made = 0
        self.latest: Places = []

    async def batch(self, count: int) -> float:
        """Let this many join, and return the seconds that it took them to leave."""
        self.latest = await self._joined(count)
        shares = [self.latest[start :: self._tasks] for start in range(self._tasks)]
        started = clock()
        await asyncio.gather(*(self._leave(share) for share in shares))
        return clock() - started

    async def _joined(self, count: int) -> Places:
        numbers = range(self._made, self._made + count)
        self._made += count
        places = [(f"{self._prefix}.{number}", await self._layer.new_channel()) for number in numbers]
        await join_all(self._layer, places, count=count)
        return places

    async def _leave(self, places: Places) -> None:
        discard = self._layer.group_discard
        for group, channel in places:
            await discard(group, channel)

    async def check(self) -> Account:
        """Send to the groups left last, then to the channels: each must get the second message, and the first never."""
        looked_at, received = self.latest[-CHECKED:], list[int]()
        for group, _ in looked_at:
            await self._layer.group_send(group, make_message(0, SENT_BY_GROUP))
        try:
            await settle(self._layer, looked_at[-1][1])
        except TimeoutError:
            return Account(sent=1, lost=1)
        try:
            for _, channel in looked_at:
                await self._layer.send(channel, make_message(0, SENT_DIRECTLY))
                async with asyncio.timeout(PATIENCE_SECONDS):
                    received.append((await self._layer.receive(channel))["n"])
        except TimeoutError:
            pass
        astray = received.count(SENT_BY_GROUP)
        lost = len(looked_at) - len(received)
        return Account(sent=len(looked_at), received=len(received), lost=lost, duplicated=astray)


async def leaver(layer: Layer, link: Link, *, run_id: str, seconds: float) -> None:
    """Leave one after the other, then from 32 tasks."""
    figures, accounts, amount = {}, [], 0
    await settle(layer, await layer.new_channel())
    for name, tasks in (("sequential", 1), ("tasks", TASKS)):
        door = Exit(layer, tasks=tasks, run_id=run_id)
        count, took = await Pace(first=TASKS, limit=2_000, seconds=seconds).measure_async(door.batch)
        figures[name] = len(door.latest) / took
        accounts.append(await door.check())
        amount += count
    link.tell("left", figures=figures, account=add_up(accounts), amount=amount)


def measure(bench: Bench) -> Sample:
    """One process."""
    with bench.crew() as crew:
        process = crew.start(leaver, run_id=bench.run_id, seconds=bench.seconds / 2)
        return Sample(**process.expect("left", within=120 + bench.seconds * 20))


WORKLOADS = (
    Workload(
        name="group_discard",
        title="Leaves within one process: group_discard() of each channel from a group of its own",
        figures=(
            Figure(name="sequential", title="leaves/s, sequential", unit="/s"),
            Figure(name="tasks", title=f"leaves/s, {TASKS} tasks", unit="/s"),
        ),
        measure=measure,
        suits=any_layer,
        series=True,
        factor=3.0,
    ),
)
