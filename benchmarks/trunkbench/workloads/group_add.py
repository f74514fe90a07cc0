"""group_add in one process: joins a second, and a check that those who joined are members."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, any_layer, clock
from trunkbench.layer import PATIENCE_SECONDS, Layer, make_message, settle
from trunkbench.ledger import Account, add_up
from trunkbench.link import Link

TASKS = 32
CHECKED = 50
Joins = Sequence[tuple[str, str]]

# Three ways to join, because layers differ: redis pub/sub asks its server only for the first member of a group
# in a process (and for each new channel), the others ask for each join or for none.
WAYS = {
    "own_rooms": "group_add() of each channel to a group of its own",
    "one_room": "group_add() of all channels to one group",
    "connect": "new_channel() and group_add() to one group, what a new consumer costs",
}


class Door:
    """Joins channels to groups in one of the ways."""

    def __init__(self, layer: Layer, *, way: str, tasks: int, run_id: str) -> None:
        self._layer = layer
        self._way = way
        self._tasks = tasks
        self._prefix = f"{run_id}.{way}.{tasks}"
        self._made = 0
        self.latest: Joins = []

    async def batch(self, count: int) -> float:
        """Join this many; return the seconds it took."""
        share = max(1, count // self._tasks)
        todo = [await self._prepare(share) for _ in range(self._tasks)]
        join = self._connect if self._way == "connect" else self._join
        started = clock()
        if self._tasks == 1:
            done = [await join(todo[0])]
        else:
            done = await asyncio.gather(*(join(joins) for joins in todo))
        took = clock() - started
        self.latest = [each for joins in done for each in joins]
        return took

    async def _prepare(self, count: int) -> Joins:
        joins = []
        for _ in range(count):
            self._made += 1
            group = f"{self._prefix}.{self._made}" if self._way == "own_rooms" else self._prefix
            joins.append((group, "" if self._way == "connect" else await self._layer.new_channel()))
        return joins

    async def _join(self, joins: Joins) -> Joins:
        add = self._layer.group_add
        for group, channel in joins:
            await add(group, channel)
        return joins

    async def _connect(self, joins: Joins) -> Joins:
        layer, done = self._layer, []
        for group, _ in joins:
            channel = await layer.new_channel()
            await layer.group_add(group, channel)
            done.append((group, channel))
        return done

    async def check(self) -> Account:
        """Send to the groups joined last; each of the channels looked at must get the message once."""
        looked_at = self.latest[-CHECKED:]
        try:
            await settle(self._layer, looked_at[-1][1])
        except TimeoutError:
            # Who does not hear at all is not waited for again.
            return Account(sent=1, lost=1)
        for number, group in enumerate(dict.fromkeys(group for group, _ in looked_at)):
            await self._layer.group_send(group, make_message(0, number))
        received = 0
        try:
            for _, channel in looked_at:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._layer.receive(channel)
                received += 1
        except TimeoutError:
            pass
        sent, received = len(looked_at) + 1, received + 1
        return Account(sent=sent, received=received, lost=sent - received)


async def joiner(layer: Layer, link: Link, *, way: str, run_id: str, seconds: float) -> None:
    """Join one after the other, then from 32 tasks."""
    figures, accounts, amount = {}, [], 0
    await settle(layer, await layer.new_channel())
    for name, tasks in (("sequential", 1), ("tasks", TASKS)):
        door = Door(layer, way=way, tasks=tasks, run_id=run_id)
        count, took = await Pace(first=TASKS, limit=10_000, seconds=seconds).measure_async(door.batch)
        figures[name] = len(door.latest) / took
        accounts.append(await door.check())
        amount += count
    link.tell("joined", figures=figures, account=add_up(accounts), amount=amount)


def measure(bench: Bench, *, way: str) -> Sample:
    """One process."""
    with bench.crew() as crew:
        process = crew.start(joiner, way=way, run_id=bench.run_id, seconds=bench.seconds / 2)
        return Sample(**process.expect("joined", within=120 + bench.seconds * 20))


WORKLOADS = tuple(
    Workload(
        name=f"group_add_{way}",
        title=f"Joins within one process: {words}",
        figures=(
            Figure(name="sequential", title="joins/s, sequential", unit="/s"),
            Figure(name="tasks", title=f"joins/s, {TASKS} tasks", unit="/s"),
        ),
        measure=partial(measure, way=way),
        suits=any_layer,
        series=way != "own_rooms",
        factor=2.2,
    )
    for way, words in WAYS.items()
)
