"""What a run measures, how long that takes, and what is seen of it meanwhile."""

from __future__ import annotations

import asyncio
import io
import subprocess
from pathlib import Path
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from trunkbench import joining, overlay
from trunkbench.choosing import choose_workloads
from trunkbench.driver import run
from trunkbench.lines import LINES
from trunkbench.link import Unmeasurable
from trunkbench.peers import PEERS, peer_named
from trunkbench.plan import SHORTEST_SECONDS, Budget, Plan
from trunkbench.progress import Progress
from trunkbench.services import Services


def plan(*, quick: bool, rounds: int) -> Plan:
    """With all layers that it has."""
    peers = [peer for peer in PEERS if not (quick and peer.variant)]
    return Plan(workloads=choose_workloads(None, quick=quick), peers=peers, rounds=rounds)


@pytest.mark.parametrize(("quick", "rounds", "minutes"), [(True, 1, 2.65), (False, 3, 28)])
def test_a_run_fits_into_its_time(quick: bool, rounds: int, minutes: float) -> None:  # noqa: FBT001
    """With measurements that are long enough to mean something."""
    budget = Budget(plan(quick=quick, rounds=rounds), seconds=minutes * 60, longest=1.5)
    assert budget.estimate() <= minutes * 60 + 1
    assert budget.length(0) > SHORTEST_SECONDS


def test_a_budget_that_is_used_up_leaves_short_measurements() -> None:
    """The run ends with all of its workloads."""
    short = Budget(plan(quick=True, rounds=1), seconds=1, longest=1.5)
    assert short.length(0) == SHORTEST_SECONDS


def test_a_quick_run_leaves_curves_out_unless_they_are_named() -> None:
    """An exact name is that workload alone; a beginning means all that begin so."""
    assert not any(each.series for each in choose_workloads(None, quick=True))
    assert [each.name for each in choose_workloads(["fan_out"], quick=True)] == ["fan_out"]
    assert len(choose_workloads(["growth_groups"], quick=True)) == 4


def test_variants_of_a_peer_are_measured_where_that_tells_something() -> None:
    """Unless they are all that was asked for."""
    whole = plan(quick=False, rounds=1)
    variants = {each.name for each in whole.workloads if peer_named("redis-core-8") in whole.pairs(each)}
    assert variants == {"one_way_32", "round_trip", "open_loop", "fan_out", "worker_channel_1", "idle"}
    alone = Plan(workloads=whole.workloads, peers=[peer_named("redis-core-8")], rounds=1)
    assert any(each.name == "large_message" and alone.pairs(each) for each in alone.workloads)


def test_a_limit_is_measured_with_a_layer_on_that_server() -> None:
    """Nobody waits for a RabbitMQ that no layer asked for."""
    chosen = Plan(workloads=choose_workloads(["bare"], quick=False), peers=[peer_named("redis-core")], rounds=1)
    names = {each.name for each in chosen.workloads if chosen.pairs(each)}
    assert names == {"bare_datagram", "bare_futures", "bare_sqlite", "bare_idle", "bare_redis"}


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def shown(out: io.StringIO) -> str:
    """What is said of two workloads in three steps, each of ten seconds."""
    now = 0.0
    progress = Progress(total=3, seconds=60, out=out, clock=lambda: now)
    for title in ("one_way", "one_way", "fan_out"):
        progress.step(title, "round 1 of 1, a layer")
        now += 10
    progress.end()
    return out.getvalue()


def test_a_terminal_sees_a_bar() -> None:
    """With the share that is done and the time that is left."""
    text = shown(Terminal())
    assert "█" in text
    assert " 67%, 0:40 left" in text
    assert "fan_out, round 1 of 1" in text


def test_a_log_sees_a_line_for_each_workload() -> None:
    """And no bar."""
    text = shown(io.StringIO())
    assert text.splitlines() == ["[1/3, 0:00] one_way", "[3/3, 0:20] fan_out", "3 measurements in 0:30"]


async def test_joins_that_would_take_too_long_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was too slow is said, and no task is left."""

    class Slow(InMemoryChannelLayer):
        """Takes its time to join."""

        async def group_add(self, group: str, channel: str) -> None:
            """Slowly."""
            await asyncio.sleep(0.01)

    monkeypatch.setattr(joining, "JUDGED_AFTER_SECONDS", 0.0)
    joins = (("room", f"c{number}") for number in range(1_000_000))
    with pytest.raises(Unmeasurable, match="1,000,000 joins would take"):
        await joining.join_all(Slow(), joins, count=1_000_000)
    await joining.join_all(InMemoryChannelLayer(), [("room", "c1"), ("room", "c2")], count=2)


async def test_a_line_counts_what_comes(tmp_path: Path) -> None:
    """The barest way through Redis."""
    with Services(data_directory=str(tmp_path)) as services:
        heard: list[int] = []
        line = LINES["redis"](f"127.0.0.1:{services.redis.port}", "own")
        await line.open(heard.append)
        await line.send("own", 120)
        async with asyncio.timeout(30):
            while sum(heard) < 120:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await line.close()
        assert sum(heard) == 120


def test_an_overlay_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again when other versions are asked for; what pip cannot do is a reason to leave the peer out."""
    calls: list[list[str]] = []

    def pip(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        (tmp_path / "peer").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 1 if "missing" in command else 0, "", "")

    monkeypatch.setattr(overlay, "FOLDER", tmp_path)
    monkeypatch.setattr(subprocess, "run", pip)
    assert overlay.Overlay("peer", ["this==1"]).install() is None
    assert overlay.Overlay("peer", ["this==1"]).install() is None
    assert len(calls) == 1
    assert overlay.Overlay("peer", ["this==2"]).install() is None
    assert overlay.Overlay("peer", ["missing"]).install() == "pip could not install missing"
    assert len(calls) == 3


def test_a_run_ends_when_its_time_is_over() -> None:
    """What it did not come to is said."""
    chosen = Plan(workloads=choose_workloads(["bare_futures"], quick=True), peers=[peer_named("sqlite")], rounds=1)
    budget = Budget(chosen, seconds=-1, longest=1)
    with Services(data_directory=None) as services:
        skipped = run(chosen, services, budget=budget, record=lambda _workload, _peer, _sample: None)
    assert [each.name for each in skipped] == ["bare_futures"]
