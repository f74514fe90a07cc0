"""What the servers can do without any channel layer: one way and round trip between two processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, bare_machine, clock, median
from trunkbench.layer import PATIENCE_SECONDS
from trunkbench.ledger import Account
from trunkbench.lines import LINES, Line
from trunkbench.link import Link
from trunkbench.services import Services

CALLED, CALLER = "bench_called", "bench_caller"


class Count:
    """Counts what comes, and lets one wait for it."""

    def __init__(self) -> None:
        self.heard = 0
        self.last_at = 0.0
        self._more = asyncio.Event()

    def hear(self, count: int) -> None:
        """So many more."""
        self.heard += count
        self.last_at = clock()
        self._more.set()

    async def reach(self, count: int) -> None:
        """Wait for them; raises TimeoutError when they stay away."""
        async with asyncio.timeout(PATIENCE_SECONDS + count / 1_000):
            while self.heard < count:
                self._more.clear()
                await self._more.wait()


async def called(_layer: None, link: Link, *, kind: str, address: str) -> None:
    """Answer pings, or count what comes."""
    count, line = Count(), LINES[kind](address, CALLED)
    await line.open(count.hear)
    link.tell("ready")
    async for order in link.orders():
        base = count.heard
        link.tell("listening")
        if order.kind == "echo":
            for number in range(order.data["count"]):
                await count.reach(base + number + 1)
                await line.send(CALLER, 1)
        else:
            await count.reach(base + order.data["count"])
            link.tell("heard", last_at=count.last_at)
    await line.close()


async def caller(_layer: None, link: Link, *, kind: str, address: str) -> None:
    """Ping, or send many."""
    count, line = Count(), LINES[kind](address, CALLER)
    await line.open(count.hear)
    link.tell("ready")
    async for order in link.orders():
        if order.kind == "ping":
            link.tell("pinged", taken=await _ping(line, count, order.data["count"]))
        else:
            link.tell("sent", first_at=await _flood(line, order.data["count"]))
    await line.close()


async def _ping(line: Line, count: Count, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        base, started = count.heard, clock()
        await line.send(CALLED, 1)
        await count.reach(base + 1)
        taken.append(clock() - started)
    return taken


async def _flood(line: Line, count: int) -> float:
    first_at = clock()
    for start in range(0, count, line.BATCH):
        await line.send(CALLED, min(line.BATCH, count - start))
    return first_at


def _database(services: Services, run_id: str) -> str:
    services.postgres.fresh_database(run_id)
    return services.postgres.dsn(run_id)


ADDRESSES: dict[str, Callable[[Services, str], str]] = {
    "redis": lambda services, _run_id: f"127.0.0.1:{services.redis.port}",
    "postgres": _database,
    "rabbitmq": lambda services, _run_id: services.rabbitmq.url,
}


def measure(bench: Bench, *, kind: str) -> Sample:
    """Two processes."""
    address = ADDRESSES[kind](bench.services, bench.run_id)
    with bench.crew() as crew:
        target = crew.start(called, kind=kind, address=address)
        source = crew.start(caller, kind=kind, address=address)
        for process in (target, source):
            process.expect("ready", within=30)
        state: dict[str, Any] = {}

        def flood(count: int) -> float:
            target.say("count", count=count)
            target.expect("listening", within=30)
            source.say("send", count=count)
            first_at = source.expect("sent", within=120)["first_at"]
            return float(target.expect("heard", within=120)["last_at"] - first_at)

        def play(count: int) -> float:
            target.say("echo", count=count)
            target.expect("listening", within=30)
            source.say("ping", count=count)
            state["taken"] = source.expect("pinged", within=120)["taken"]
            return float(sum(state["taken"]))

        count, seconds = Pace(first=100, limit=500_000, seconds=bench.seconds).measure(flood)
        Pace(first=50, limit=100_000, seconds=bench.seconds / 2).measure(play)
        figures = {"rate": count / seconds, "median": median(state["taken"]) * 1e3}
        return Sample(figures=figures, account=Account(sent=count, received=count), amount=count)


TITLES = {
    "redis": "Redis PUBLISH to a subscriber, bare sockets, 50 pipelined",
    "postgres": "pg_notify to a listener by psycopg, 50 in a statement",
    "rabbitmq": "AMQP publish and consume by bare sockets, without confirms, 50 at once",
}

WORKLOADS = tuple(
    Workload(
        name=f"bare_{kind}",
        title=f"Limit: {title}",
        figures=(
            Figure(name="rate", title="messages/s", unit="/s"),
            Figure(name="median", title="round trip of one, median", unit="ms", better="lower"),
        ),
        measure=partial(measure, kind=kind),
        suits=bare_machine,
        needs=kind,
        factor=2.6,
    )
    for kind, title in TITLES.items()
)
