#!/usr/bin/env python3
"""Measure channels-trunk against other channel layers on this machine: `python benchmarks/run.py --help`."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

from trunkbench import tables
from trunkbench.choosing import choose_peers, choose_workloads, named_so
from trunkbench.driver import Outcome, run
from trunkbench.figures import Sample, Workload
from trunkbench.machine import describe_machine, describe_versions, load
from trunkbench.peers import PEERS, Peer
from trunkbench.plan import Budget, Plan
from trunkbench.progress import as_minutes
from trunkbench.promises import TARGETS
from trunkbench.report import Report
from trunkbench.services import Services, end_in_order
from trunkbench.summary import Summary
from trunkbench.targets import judge
from trunkbench.workloads.table import WORKLOADS

# Less than is promised, three minutes and thirty: servers start and stop, too.
QUICK_MINUTES, FULL_MINUTES = 2.65, 28.0
LONGEST_QUICK_SECONDS, LONGEST_SECONDS = 0.5, 1.5


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: shows that all works, proves no figure")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="workloads, by name or beginning of the name")
    parser.add_argument("--layers", nargs="+", metavar="NAME", help="layers, by name")
    parser.add_argument("--rounds", type=int, help="measurements of each (3; with --quick 1)")
    parser.add_argument(
        "--minutes", type=float, help=f"time for all ({FULL_MINUTES:g}; with --quick {QUICK_MINUTES:g})"
    )
    parser.add_argument("--seconds", type=float, help="length of each measurement, whatever time that takes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write samples, report and plots there")
    parser.add_argument("--data-dir", metavar="DIR", help="where the databases lie during the run (/var/tmp)")
    parser.add_argument(
        "--postgres", nargs="+", metavar="NAME=VALUE", default=[], help="settings of the PostgreSQL, such as fsync=off"
    )
    parser.add_argument("--check", action="store_true", help="exit status 1 if a target is missed")
    parser.add_argument("--list", action="store_true", help="show the names and stop")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.minutes = options.minutes or (QUICK_MINUTES if options.quick else FULL_MINUTES)
    _refuse_unknown(parser, options)
    return options


def _refuse_unknown(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    layers = {peer.name for peer in PEERS}
    if unknown := set(options.layers or ()) - layers:
        parser.error(f"unknown layer {', '.join(sorted(unknown))}; there are {', '.join(sorted(layers))}")
    if wrong := [each for each in options.postgres if "=" not in each]:
        parser.error(f"--postgres takes NAME=VALUE, not {wrong[0]}")
    for name in options.only or ():
        if not named_so(name):
            parser.error(f"unknown workload {name}; there are {', '.join(each.name for each in WORKLOADS)}")


def make_budget(plan: Plan, options: argparse.Namespace) -> Budget:
    """How long each measurement may take; what it comes to is said before anything is measured."""
    if options.seconds:
        budget = Budget(plan, seconds=inf, longest=options.seconds)
    else:
        longest = LONGEST_QUICK_SECONDS if options.quick else LONGEST_SECONDS
        budget = Budget(plan, seconds=options.minutes * 60, longest=longest)
    layers = ", ".join(peer.name for peer in plan.peers)
    print(f"{plan.count()} measurements of {budget.length(0):.2g} s of {layers}", file=sys.stderr)
    print(f"this will take about {as_minutes(budget.estimate())} (minutes:seconds)", file=sys.stderr, flush=True)
    return budget


def measure(options: argparse.Namespace, services: Services) -> Report:
    """The whole run."""
    peers, left_out = choose_peers(options.layers, services, quick=options.quick)
    workloads = choose_workloads(options.only, quick=options.quick)
    plan = Plan(workloads=workloads, peers=peers, rounds=options.rounds)
    machine = describe_machine(services.directory) | {"load_before": load()}
    outcomes: dict[tuple[str, str], Outcome] = {}

    def record(workload: Workload, peer: Peer, sample: Sample) -> None:
        place = (workload.name, peer.name)
        outcomes.setdefault(place, Outcome(workload=workload, peer=peer)).samples.append(sample)

    try:
        for workload in run(plan, services, budget=make_budget(plan, options), record=record):
            left_out[workload.name] = "no time was left"
    except SystemExit as end:  # Ctrl-C, kill: what is known is worth more than nothing
        left_out["what came later"] = "the run was ended"
        options.ended = end.code
    kept = ("rounds", "minutes", "seconds", "quick", "postgres")
    return Report(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        options={name: getattr(options, name) for name in kept},
        machine=machine | {"load_after": load()},
        versions=versions_of(peers) | services.versions(),
        left_out=left_out,
        outcomes=list(outcomes.values()),
        verdicts=[judge(target, outcomes) for target in TARGETS],
    )


def versions_of(peers: Sequence[Peer]) -> dict[str, str]:
    """Of the packages that were measured."""
    versions = describe_versions(dict.fromkeys(name for peer in peers for name in peer.distributions))
    for peer in peers:
        if peer.overlay:
            versions |= peer.overlay.versions()
    return versions


def write(data: dict[str, Any], options: argparse.Namespace) -> None:
    """The report to stdout, and everything to the files that were asked for."""
    summary = Summary.of(data)
    text = tables.report(summary)
    print(text)
    files = {options.json: json.dumps(data, indent=1) + "\n"} if options.json else {}
    if options.out:
        files |= {options.out / "result.json": json.dumps(data, indent=1) + "\n", options.out / "report.md": text}
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    if options.out:
        drawn = draw(summary, options.out)
        print(f"written: {', '.join(str(path) for path in [*files, *drawn])}", file=sys.stderr)


def draw(summary: Summary, folder: Path) -> list[Path]:
    """The plots, where matplotlib is installed."""
    try:
        from trunkbench.plots import draw_all
    except ImportError as error:
        print(f"no plots: {error}", file=sys.stderr)
        return []
    return list(draw_all(summary, folder))


def main() -> int:
    """Run, print, write."""
    options = parse()
    options.ended = 0
    if options.list:
        print("workloads:", *(f"  {each.name:22} {each.title}" for each in WORKLOADS), sep="\n")
        print("layers:", *(f"  {peer.name:22} {peer.label}" for peer in PEERS), sep="\n")
        return 0
    end_in_order()
    postgres_options = dict(each.split("=", 1) for each in options.postgres)
    with Services(data_directory=options.data_dir, postgres_options=postgres_options) as services:
        report = measure(options, services)
    write(report.as_data(), options)
    failed = [outcome for outcome in report.outcomes if outcome.errors and outcome.peer.ours]
    for outcome in failed:
        print(f"{outcome.workload.name}, {outcome.peer.label}: {outcome.errors[0]}", file=sys.stderr)
    missed = options.check and any(verdict.met is False for verdict in report.verdicts)
    # A peer that fails is a finding; a layer of ours that fails is a fault.
    return options.ended or (1 if missed or failed else 0)


if __name__ == "__main__":
    sys.exit(main())
