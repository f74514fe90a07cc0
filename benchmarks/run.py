#!/usr/bin/env python3
"""Measure channels-trunk against other channel layers on this machine: `python benchmarks/run.py --help`."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trunkbench.driver import Outcome, Plan, run
from trunkbench.figures import Sample, Workload
from trunkbench.machine import describe_machine, describe_versions, load
from trunkbench.peers import PEERS, Peer
from trunkbench.report import Report
from trunkbench.services import ServiceError, Services, end_in_order
from trunkbench.targets import TARGETS, judge
from trunkbench.workloads.table import WORKLOADS


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: shows that all works, proves no figure")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="workloads, by name or beginning of the name")
    parser.add_argument("--layers", nargs="+", metavar="NAME", help="layers, by name")
    parser.add_argument("--rounds", type=int, help="measurements of each (3; with --quick 1)")
    parser.add_argument("--seconds", type=float, help="length of each measurement (1.5; with --quick 0.3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--data-dir", metavar="DIR", help="where the databases lie during the run (/var/tmp)")
    parser.add_argument(
        "--postgres", nargs="+", metavar="NAME=VALUE", default=[], help="settings of the PostgreSQL, such as fsync=off"
    )
    parser.add_argument("--check", action="store_true", help="exit status 1 if a target is missed")
    parser.add_argument("--list", action="store_true", help="show the names and stop")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.3 if options.quick else 1.5)
    _refuse_unknown(parser, options)
    return options


def _refuse_unknown(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    layers = {peer.name for peer in PEERS}
    if unknown := set(options.layers or ()) - layers:
        parser.error(f"unknown layer {', '.join(sorted(unknown))}; there are {', '.join(sorted(layers))}")
    if wrong := [each for each in options.postgres if "=" not in each]:
        parser.error(f"--postgres takes NAME=VALUE, not {wrong[0]}")
    for name in options.only or ():
        if not any(workload.name.startswith(name) for workload in WORKLOADS):
            parser.error(f"unknown workload {name}; there are {', '.join(each.name for each in WORKLOADS)}")


def choose_peers(names: Sequence[str] | None, services: Services) -> tuple[list[Peer], dict[str, str]]:
    """The layers that can run here, and why the others cannot. A layer asked for by name must be there."""
    chosen, left_out = [], {}
    for peer in PEERS:
        if names and peer.name not in names:
            continue
        reason = peer.missing() or _missing_service(peer, services)
        if reason is None:
            chosen.append(peer)
        elif names:
            sys.exit(f"{peer.label}: {reason}")
        else:
            left_out[peer.label] = reason
    return chosen, left_out


def _missing_service(peer: Peer, services: Services) -> str | None:
    try:
        if "redis" in peer.needs:
            services.redis.command("PING")
        if "postgres" in peer.needs:
            services.postgres.version()
        if "rabbitmq" in peer.needs:
            services.rabbitmq.version()
    except ServiceError as error:
        return str(error)
    return None


def choose_workloads(names: Sequence[str] | None) -> list[Workload]:
    """All, or those whose names begin so."""
    return [each for each in WORKLOADS if not names or any(each.name.startswith(name) for name in names)]


def measure(options: argparse.Namespace, services: Services) -> Report:
    """The whole run."""
    peers, left_out = choose_peers(options.layers, services)
    plan = Plan(workloads=choose_workloads(options.only), peers=peers, rounds=options.rounds, seconds=options.seconds)
    machine = describe_machine(services.directory) | {"load_before": load()}
    outcomes: dict[tuple[str, str], Outcome] = {}

    def record(workload: Workload, peer: Peer, sample: Sample) -> None:
        place = (workload.name, peer.name)
        outcomes.setdefault(place, Outcome(workload=workload, peer=peer)).samples.append(sample)

    run(plan, services, record=record)
    versions = describe_versions(dict.fromkeys(name for peer in peers for name in peer.distributions))
    if services.redis_started:
        versions["redis-server"] = services.redis.version()
    if services.postgres_started:
        versions["PostgreSQL"] = services.postgres.version()
    if services.rabbitmq_started:
        versions["RabbitMQ"] = services.rabbitmq.version()
    return Report(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        options={
            "rounds": options.rounds,
            "seconds": options.seconds,
            "quick": options.quick,
            "postgres": options.postgres,
        },
        machine=machine | {"load_after": load()},
        versions=versions,
        left_out=left_out,
        outcomes=list(outcomes.values()),
        verdicts=[judge(target, outcomes) for target in TARGETS],
    )


def main() -> int:
    """Run, print, write."""
    options = parse()
    if options.list:
        print("workloads:", *(f"  {each.name:22} {each.title}" for each in WORKLOADS), sep="\n")
        print("layers:", *(f"  {peer.name:22} {peer.label}" for peer in PEERS), sep="\n")
        return 0
    end_in_order()
    postgres_options = dict(each.split("=", 1) for each in options.postgres)
    with Services(data_directory=options.data_dir, postgres_options=postgres_options) as services:
        report = measure(options, services)
    print(report.as_markdown())
    if options.json:
        options.json.write_text(json.dumps(report.as_data(), indent=1) + "\n")
    missed = options.check and any(verdict.met is False for verdict in report.verdicts)
    return 1 if missed or any(outcome.errors for outcome in report.outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
