"""Callers without an event loop: group_send from a plain thread, with a member in another process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from asgiref.sync import async_to_sync

from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, clock, works_on_any_loop
from trunkbench.layer import (
    PATIENCE_SECONDS,
    Layer,
    Message,
    TrunkLayer,
    collect,
    make_message,
    running,
    settle,
    until_received,
)
from trunkbench.ledger import Account, Ledger
from trunkbench.link import Link
from trunkbench.peers import Peer

GroupSend = Callable[[str, Message], None]


def by_blocking_api(layer: Layer) -> GroupSend:
    """`layer.sync.group_send`."""
    return cast("TrunkLayer", layer).sync.group_send


def by_async_to_sync(layer: Layer) -> GroupSend:
    """What Django code does today: a new wrapper each call, as views write it."""

    def group_send(group: str, message: Message) -> None:
        async_to_sync(layer.group_send)(group, message)

    return group_send


WAYS = {"blocking": by_blocking_api, "async_to_sync": by_async_to_sync}


async def member(layer: Layer, link: Link, *, group: str) -> None:
    """One member that counts."""
    channel, ledger = await layer.new_channel(), Ledger(senders=1)
    await layer.group_add(group, channel)
    await settle(layer, channel)
    async with running([collect(layer, channel, ledger=ledger)]):
        link.tell("ready")
        async for order in link.orders():
            await until_received(ledger, order.data["sent"], patience=PATIENCE_SECONDS)
            link.tell("account", account=ledger.close([order.data["sent"]]))


class Calls:
    """Batches of group_send in the calling thread."""

    def __init__(self, send: GroupSend, *, group: str) -> None:
        self._send = send
        self._group = group
        self.sent = 0

    def batch(self, count: int) -> float:
        """Call this many times; return the seconds it took."""
        started = clock()
        for number in range(self.sent, self.sent + count):
            self._send(self._group, make_message(0, number))
        self.sent += count
        return clock() - started


def caller(layer: Layer, link: Link, *, group: str, way: str, seconds: float) -> None:
    """Call from a thread that has no event loop and is not the main one, as a WSGI server's threads."""
    calls = Calls(WAYS[way](layer), group=group)
    outcome: dict[str, Any] = {}

    def work() -> None:
        count, took = Pace(first=20, limit=100_000, seconds=seconds).measure(calls.batch)
        outcome.update(figures={"rate": count / took}, amount=count, sent=calls.sent)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    link.tell("called", **outcome)


def lone_caller(layer: Layer, link: Link, *, group: str, way: str, seconds: float) -> None:
    """For layers of one process: the member is here as well, and its mailbox is read when all is sent."""
    asyncio.run(_join_alone(layer, group))
    calls = Calls(WAYS[way](layer), group=group)
    # Less than the capacity in all batches together: nobody reads meanwhile.
    count, took = Pace(first=20, limit=20_000, seconds=seconds).measure(calls.batch)
    account = asyncio.run(_read_alone(layer, calls.sent))
    link.tell("called", figures={"rate": count / took}, amount=count, account=account)


_LONE_CHANNELS: list[str] = []


async def _join_alone(layer: Layer, group: str) -> None:
    _LONE_CHANNELS.append(await layer.new_channel())
    await layer.group_add(group, _LONE_CHANNELS[-1])


async def _read_alone(layer: Layer, sent: int) -> Account:
    ledger = Ledger(senders=1)
    async with running([collect(layer, _LONE_CHANNELS[-1], ledger=ledger)]):
        await until_received(ledger, sent, patience=PATIENCE_SECONDS)
    return ledger.close([sent])


def measure(bench: Bench, *, way: str) -> Sample:
    """Two processes; one for layers that cannot cross."""
    group, patience = f"{bench.run_id}.room", 60 + bench.seconds * 10
    with bench.crew() as crew:
        if not bench.peer.crosses_processes:
            process = crew.start(lone_caller, group=group, way=way, seconds=bench.seconds)
            return Sample(**process.expect("called", within=patience))
        listener = crew.start(member, group=group)
        listener.expect("ready", within=30)
        process = crew.start(caller, group=group, way=way, seconds=bench.seconds)
        called = process.expect("called", within=patience)
        listener.say("account", sent=called.pop("sent"))
        return Sample(**called, **listener.expect("account", within=60))


def _has_blocking_api(peer: Peer) -> bool:
    return peer.blocking_api


WORKLOADS = (
    Workload(
        name="sync_api",
        title="layer.sync.group_send from a plain thread",
        figures=(Figure(name="rate", title="calls/s", unit="/s"),),
        measure=partial(measure, way="blocking"),
        suits=_has_blocking_api,
    ),
    Workload(
        name="async_to_sync",
        title="async_to_sync(layer.group_send) from a plain thread",
        figures=(Figure(name="rate", title="calls/s", unit="/s"),),
        measure=partial(measure, way="async_to_sync"),
        suits=works_on_any_loop,
    ),
)
