"""One normal channel and 1, 2 or 4 consumer processes: jobs a second, each exactly once."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from functools import partial
from typing import Any

from trunkbench.crew import Member
from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, clock, has_normal_channels
from trunkbench.layer import PATIENCE_SECONDS, Layer, running, settle
from trunkbench.ledger import Account
from trunkbench.link import Link
from trunkbench.workloads.one_way import sender

SENDERS = 8
# Jobs are numbered by sender and number; one integer holds both.
STRIDE = 1 << 32


async def consumer(layer: Layer, link: Link, *, channel: str) -> None:
    """A worker: one task in receive()."""
    jobs, last_at = array("q"), 0.0

    async def work() -> None:
        nonlocal last_at
        while True:
            message = await layer.receive(channel)
            jobs.append(message["s"] * STRIDE + message["n"])
            last_at = clock()

    async with running([work()]):
        # pub/sub subscribes to a normal channel only in receive(): it must be there before the first job is sent.
        await settle(layer, await layer.new_channel())
        link.tell("ready")
        async for order in link.orders():
            if order.kind == "count":
                link.tell("count", count=len(jobs), last_at=last_at)
            else:
                link.tell("jobs", jobs=jobs)


def wait_for_jobs(consumers: list[Member], count: int) -> tuple[int, float]:
    """Ask until all jobs are there and no more come, or none came for long: how many came in all, and when the last."""
    seen, quiet_since = -1, time.monotonic()
    while True:
        for process in consumers:
            process.say("count")
        answers = [process.expect("count", within=30) for process in consumers]
        total, now = sum(answer["count"] for answer in answers), time.monotonic()
        if total != seen:
            seen, quiet_since = total, now
        # What comes after the last expected job is a duplicate, and counted as one.
        if now - quiet_since > (0.1 if total >= count else PATIENCE_SECONDS):
            return total, max(answer["last_at"] for answer in answers)
        time.sleep(0.02)


def settle_account(consumers: list[Member], sent: list[int]) -> Account:
    """Every job of every sender against what all consumers got."""
    got: Counter[int] = Counter()
    disordered = 0
    for process in consumers:
        process.say("jobs")
        jobs: array[int] = process.expect("jobs", within=30)["jobs"]
        got.update(jobs)
        disordered += _disorder(jobs)
    received = sum(got.values())
    return Account(
        sent=sum(sent),
        received=received,
        lost=sum(sent) - len(got),
        duplicated=received - len(got),
        disordered=disordered,
    )


def _disorder(jobs: array[int]) -> int:
    """Jobs that one consumer got after a later one of the same sender."""
    latest: dict[int, int] = {}
    late = 0
    for job in jobs:
        sender_index, number = divmod(job, STRIDE)
        if number < latest.get(sender_index, -1):
            late += 1
        else:
            latest[sender_index] = number
    return late


def measure(bench: Bench, *, processes: int) -> Sample:
    """A sending process and this many consuming ones."""
    channel = f"{bench.run_id}.jobs"
    with bench.crew() as crew:
        consumers = [crew.start(consumer, channel=channel) for _ in range(processes)]
        source = crew.start(sender, channel=channel, tasks=SENDERS)
        for process in (*consumers, source):
            process.expect("ready", within=60)
        state: dict[str, Any] = {"received": 0}

        def batch(count: int) -> float:
            source.say("send", count=count)
            sent = source.expect("sent", within=120)
            received, last_at = wait_for_jobs(consumers, state["received"] + sent["count"])
            state.update(received=received, totals=sent["totals"], count=sent["count"])
            return float(last_at - sent["first_at"])

        count, seconds = Pace(first=10 * SENDERS, limit=100_000, seconds=bench.seconds).measure(batch)
        account = settle_account(consumers, state["totals"])
        return Sample(figures={"rate": state["count"] / seconds}, account=account, amount=count)


WORKLOADS = tuple(
    Workload(
        name=f"worker_channel_{processes}",
        title=f"Worker channel, {processes} consumer process{'es' if processes > 1 else ''}",
        figures=(Figure(name="rate", title="jobs/s", unit="/s"),),
        measure=partial(measure, processes=processes),
        suits=has_normal_channels,
        series=processes > 1,
        variants=processes == 1,
    )
    for processes in (1, 2, 4)
)
