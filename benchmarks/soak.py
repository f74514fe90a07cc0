#!/usr/bin/env python3
"""Keep a rate between two processes for minutes and watch the files and the memory: `python benchmarks/soak.py --help`.

The exit status is not zero if the files grew beyond the limit, memory went on growing, a message was lost, came twice
or out of order, or the rate was not kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from trunkbench.crew import Crew, Member
from trunkbench.endurance import receiver, sender
from trunkbench.ledger import Account
from trunkbench.machine import resident_bytes
from trunkbench.peers import CAPACITY, PEERS, peer_named
from trunkbench.services import Services, end_in_order

MIB = 2**20
# Memory may breathe; what goes on growing is a leak.
GROWTH_ALLOWED = 8 * MIB
FILES_LOOKED_AT_EVERY = 0.25


@dataclass(frozen=True, kw_only=True)
class Look:
    """The state at one moment."""

    seconds: float
    sent: int
    received: int
    database: int
    wal: int
    largest: int
    sender_memory: int
    receiver_memory: int

    def row(self) -> str:
        """One line of the table."""
        sizes = (self.database, self.wal, self.largest, self.sender_memory, self.receiver_memory)
        numbers = (f"{self.seconds:,.0f}", f"{self.sent:,}", f"{self.received:,}", *(f"{s / MIB:.1f}" for s in sizes))
        return f"| {' | '.join(numbers)} |"


HEADER = (
    "| s | sent | received | database MiB | WAL MiB | largest sum so far MiB | sender RSS MiB | receiver RSS MiB |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, kw_only=True)
class Soak:
    """A run under way."""

    source: Member
    target: Member
    database: Path

    def looks(self, *, seconds: float, every: float) -> Iterator[Look]:
        """Look at the files often, for their largest size, and at the rest now and then."""
        started = time.monotonic()
        due, largest = every, 0
        while due <= seconds:
            largest = max(largest, _size(self.database) + _size(_wal(self.database)))
            elapsed = time.monotonic() - started
            if elapsed >= due:
                due += every
                yield self._look(elapsed, largest)
            time.sleep(FILES_LOOKED_AT_EVERY)

    def _look(self, elapsed: float, largest: int) -> Look:
        for member in (self.source, self.target):
            member.say("progress")
        return Look(
            seconds=elapsed,
            sent=self.source.expect("progress", within=30)["count"],
            received=self.target.expect("progress", within=30)["count"],
            database=_size(self.database),
            wal=_size(_wal(self.database)),
            largest=largest,
            sender_memory=resident_bytes(self.source.process.pid),
            receiver_memory=resident_bytes(self.target.process.pid),
        )

    def end(self) -> tuple[Account, int]:
        """Stop the sender, wait for the last message: the ledger, and how often a full channel refused."""
        self.source.say("end")
        ended = self.source.expect("ended", within=60)
        self.target.say("account", sent=ended["sent"])
        account: Account = self.target.expect("account", within=120)["account"]
        return account, ended["refused"]


def _wal(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def complaints(looks: Sequence[Look], account: Account, *, options: argparse.Namespace) -> list[str]:
    """Everything that is not as promised."""
    found = []
    largest = max(look.largest for look in looks)
    if largest > options.limit * MIB:
        found.append(f"database and WAL grew to {largest / MIB:.1f} MiB, the limit is {options.limit:g} MiB")
    if not account.clean:
        found.append(account.describe())
    rate = (looks[-1].sent - looks[0].sent) / max(looks[-1].seconds - looks[0].seconds, 1e-9)
    if len(looks) > 1 and rate < options.rate * 0.98:
        found.append(f"only {rate:,.0f} messages/s were sent, {options.rate:,.0f} were asked for")
    for name in ("sender_memory", "receiver_memory"):
        growth = _growth([getattr(look, name) for look in looks])
        if growth > GROWTH_ALLOWED:
            found.append(f"{name.replace('_', ' ')} went on growing, by {growth / MIB:.1f} MiB over the later half")
    return found


def _growth(sizes: Sequence[int]) -> float:
    """The last quarter against the one after the first half has warmed up."""
    quarter = len(sizes) // 4
    if not quarter:
        return 0.0
    return median(sizes[-quarter:]) - median(sizes[2 * quarter : 3 * quarter])


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--rate", type=float, default=5_000, help="messages a second (5,000)")
    parser.add_argument("--size", type=int, default=1_024, help="bytes of payload (1,024)")
    parser.add_argument("--expiry", type=int, default=60, help="seconds (60)")
    parser.add_argument("--limit", type=float, default=64, help="MiB for the database file and its WAL (64)")
    parser.add_argument("--every", type=float, default=10, help="seconds between two lines (10)")
    parser.add_argument("--layer", choices=[peer.name for peer in PEERS if peer.crosses_processes], default="sqlite")
    parser.add_argument("--data-dir", metavar="DIR", help="where the database lies (/var/tmp)")
    options = parser.parse_args()
    # Memory is judged by quarters of the run: a short one is looked at more often.
    options.every = min(options.every, options.minutes * 60 / 8)
    return options


def run(options: argparse.Namespace, services: Services) -> int:
    """The whole run."""
    peer, run_id = peer_named(options.layer), services.next_run()
    config = peer.config(services, run_id)
    if options.layer != "redis-pubsub":
        config |= {"expiry": options.expiry, "capacity": CAPACITY}
    print(f"{peer.label}: {options.rate:,.0f} messages/s of {options.size:,} bytes for {options.minutes:g} minutes")
    print(HEADER, flush=True)
    looks: list[Look] = []
    with Crew(peer, config, log=services.directory / "soak.log") as crew:
        target = crew.start(receiver)
        channel = target.expect("ready", within=30)["channel"]
        source = crew.start(sender, channel=channel, rate=options.rate, size=options.size)
        source.expect("ready", within=30)
        soak = Soak(source=source, target=target, database=services.directory / f"{run_id}.sqlite3")
        for look in soak.looks(seconds=options.minutes * 60, every=options.every):
            looks.append(look)
            print(look.row(), flush=True)
        account, refused = soak.end()
    print(f"\nsent {account.sent:,}, received {account.received:,}, refused and tried again {refused:,}")
    found = complaints(looks, account, options=options)
    print("\n".join(f"FAILED: {words}" for words in found) or "All as promised.")
    return 1 if found else 0


def main() -> int:
    """Run and clean up."""
    options = parse()
    end_in_order()
    with Services(data_directory=options.data_dir) as services:
        return run(options, services)


if __name__ == "__main__":
    sys.exit(main())
