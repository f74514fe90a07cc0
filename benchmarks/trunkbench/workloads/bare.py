"""What the machine can do without any channel layer: the limits behind the other figures."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

from trunkbench.crew import Role
from trunkbench.figures import Bench, Figure, Pace, Sample, Workload, bare_machine, clock, median, percentile
from trunkbench.layer import running
from trunkbench.ledger import Account
from trunkbench.link import Link
from trunkbench.workloads.idle import measure_bare

TASKS = 1_000
ROW = b"x" * 250


class Datagrams:
    """A Unix datagram socket, read by the loop."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self._socket.bind(path)
        self._loop = asyncio.get_running_loop()

    def send(self, data: bytes, path: str) -> None:
        """Ring at that socket."""
        self._socket.sendto(data, path)

    def on_datagram(self, call: Callable[[bytes], None]) -> None:
        """Call for each datagram that comes."""
        self._loop.add_reader(self._socket.fileno(), lambda: call(self._socket.recv(4096)))

    def close(self) -> None:
        """Let go of it."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()


async def datagram_echo(_layer: None, link: Link, *, own: str, other: str) -> None:
    """Send every datagram back."""
    datagrams = Datagrams(own)
    datagrams.on_datagram(lambda data: datagrams.send(data, other))
    link.tell("ready")
    async for _ in link.orders():
        pass
    datagrams.close()


async def datagram_player(_layer: None, link: Link, *, own: str, other: str, seconds: float) -> None:
    """Ping and wait for the pong."""
    datagrams, loop, taken = Datagrams(own), asyncio.get_running_loop(), list[float]()
    pong: asyncio.Future[bytes] = loop.create_future()

    def take(data: bytes) -> None:
        pong.set_result(data)

    datagrams.on_datagram(take)

    async def batch(count: int) -> float:
        nonlocal pong
        taken.clear()
        for _ in range(count):
            started, pong = clock(), loop.create_future()
            datagrams.send(ROW, other)
            await pong
            taken.append(clock() - started)
        return sum(taken)

    count, _ = await Pace(first=100, limit=1_000_000, seconds=seconds).measure_async(batch)
    datagrams.close()
    figures = {"median": median(taken) * 1e3, "p99": percentile(taken, 0.99) * 1e3}
    link.tell("done", figures=figures, amount=count, account=Account(sent=count, received=len(taken)))


async def wake_tasks(_layer: None, link: Link, *, seconds: float) -> None:
    """Set 1,000 futures and let the 1,000 tasks behind them run."""
    loop = asyncio.get_running_loop()
    slots: list[asyncio.Future[None]] = [loop.create_future() for _ in range(TASKS)]
    waiting, all_awake, woken = 0, asyncio.Event(), 0

    async def sleeper(index: int) -> None:
        nonlocal waiting, woken
        while True:
            await slots[index]
            slots[index] = loop.create_future()
            woken += 1
            waiting -= 1
            if not waiting:
                all_awake.set()

    async def batch(count: int) -> float:
        nonlocal waiting
        started = clock()
        for _ in range(count):
            waiting = TASKS
            all_awake.clear()
            for slot in slots:
                slot.set_result(None)
            await all_awake.wait()
        return clock() - started

    async with running(sleeper(index) for index in range(TASKS)):
        await asyncio.sleep(0)
        count, took = await Pace(first=4, limit=100_000, seconds=seconds).measure_async(batch)
        figures = {"rate": count * TASKS / took}
        link.tell("done", figures=figures, amount=count * TASKS, account=Account(sent=woken, received=woken))


def commit(_layer: None, link: Link, *, path: str, seconds: float) -> None:
    """Commit rows to a new SQLite file as the SQLite layer does: WAL, synchronous NORMAL, no checkpoint on the way."""
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {setting}")
    connection.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, body BLOB)")

    def batch(count: int, *, rows: int) -> float:
        connection.execute("DELETE FROM log")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        started = clock()
        for _ in range(count):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO log (body) VALUES (?)", [(ROW,)] * rows)
            connection.execute("COMMIT")
        return clock() - started

    single, took_single = Pace(first=100, limit=50_000, seconds=seconds).measure(lambda count: batch(count, rows=1))
    hundred, took_hundred = Pace(first=10, limit=2_000, seconds=seconds).measure(lambda count: batch(count, rows=100))
    connection.close()
    figures = {"commits": single / took_single, "rows": hundred * 100 / took_hundred}
    link.tell("done", figures=figures, amount=single, account=Account())


def measure_datagrams(bench: Bench) -> Sample:
    """Two processes."""
    own, other = (str(bench.services.directory / f"{bench.run_id}.{side}") for side in "ab")
    with bench.crew() as crew:
        crew.start(datagram_echo, own=other, other=own).expect("ready", within=30)
        player = crew.start(datagram_player, own=own, other=other, seconds=bench.seconds)
        return Sample(**player.expect("done", within=60))


def _measure_alone(bench: Bench, role: Role, **params: object) -> Sample:
    with bench.crew() as crew:
        return Sample(**crew.start(role, seconds=bench.seconds, **params).expect("done", within=120))


def measure_wakes(bench: Bench) -> Sample:
    """One process."""
    return _measure_alone(bench, wake_tasks)


def measure_commits(bench: Bench) -> Sample:
    """One process, in the directory where the layers' files lie."""
    path = Path(bench.services.directory) / f"{bench.run_id}.sqlite3"
    return _measure_alone(bench, commit, path=os.fspath(path))


_LATENCY = (
    Figure(name="median", title="median", unit="ms", better="lower"),
    Figure(name="p99", title="p99", unit="ms", better="lower"),
)

WORKLOADS = (
    Workload(
        name="bare_datagram",
        title="Limit: round trip of a Unix datagram between two asyncio processes",
        figures=_LATENCY,
        measure=measure_datagrams,
        suits=bare_machine,
    ),
    Workload(
        name="bare_futures",
        title="Limit: asyncio, 1,000 futures set and 1,000 tasks woken",
        figures=(Figure(name="rate", title="wakes/s", unit="/s"),),
        measure=measure_wakes,
        suits=bare_machine,
    ),
    Workload(
        name="bare_sqlite",
        title="Limit: SQLite commits (WAL, synchronous NORMAL, 250 bytes a row)",
        figures=(
            Figure(name="commits", title="commits/s of one row", unit="/s"),
            Figure(name="rows", title="rows/s, 100 a commit", unit="/s"),
        ),
        measure=measure_commits,
        suits=bare_machine,
    ),
    Workload(
        name="bare_idle",
        title="Limit: 1,000 tasks that wait for a future",
        figures=(Figure(name="traced", title="memory a task (tracemalloc)", unit="KiB", better="lower"),),
        measure=measure_bare,
        suits=bare_machine,
    ),
)
