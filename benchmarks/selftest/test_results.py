"""From the samples of a run to its tables, its plots and the documentation: a fault is never lost on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from selftest import tiny
from trunkbench import tables
from trunkbench.ledger import Account
from trunkbench.pages import PLOT_WORDS, filled
from trunkbench.plots import PLOTS, draw_all
from trunkbench.promises import TARGETS
from trunkbench.summary import Summary, _error_words
from trunkbench.targets import Target, judge
from trunkbench.workloads.table import WORKLOADS

SUMMARY = tiny.summary()


def test_a_summary_survives_its_file() -> None:
    """What is kept is all that tables and plots need."""
    loaded = Summary.load(json.loads(SUMMARY.as_text()))
    assert loaded.rows == SUMMARY.rows
    assert tables.report(loaded) == tables.report(SUMMARY)


def test_the_report_marks_what_is_wrong() -> None:
    """A loss, an overload, a failure."""
    lines = tables.report(SUMMARY).splitlines()
    assert "| channels_trunk SQLite | 1,000 | 1,000 | 25 % of `bare_futures` | all |" in lines
    assert "| channels_redis pubsub | 100 | 100 | 2.5 % of `bare_futures` | **14 lost** |" in lines
    assert any("channels_redis core" in line and "**overloaded**" in line for line in lines)
    assert any("**2 of 2 failed: TimeoutError: it did not come back**" in line for line in lines)
    assert "- left out: channels_postgres, not installed" in lines


def test_what_a_process_ended_of_is_said_though_it_stands_in_a_frame() -> None:
    """As Python shows what the tasks of a group failed of."""
    log = """redis-core echo: exit status 1
  + Exception Group Traceback (most recent call last):
  |   File "roles.py", line 1, in <module>
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    | redis.exceptions.TimeoutError: Timeout reading from 127.0.0.1:6379
    +------------------------------------"""
    words = _error_words([log, log], rounds=3)
    assert words == "2 of 3 failed: redis.exceptions.TimeoutError: Timeout reading from 127.0.0.1:6379"


def test_the_report_says_which_targets_are_missed() -> None:
    """By the ratio of the medians."""
    lines = tables.report(SUMMARY).splitlines()
    assert "| aim: one way, 32 senders: SQLite / pubsub | 10 | 10 to 10 | at least 10 | yes |" in lines
    assert (
        "| aim: one process, 1,000 members: SQLite / the bare machine | 0.25 | 0.25 to 0.25 | at least 0.4 | **no** |"
        in lines
    )


def test_the_best_rival_is_one_without_a_fault() -> None:
    """Whoever loses has not done the work."""
    found, place = tiny.outcomes(), ("fan_out", "sqlite", "rate")
    rivals = (("fan_out", "redis-pubsub", "rate"), ("fan_out", "redis-core", "rate"), ("fan_out", "none", "rate"))
    verdict = judge(Target(title="", ours=place, rivals=rivals, at_least=100), found)
    assert verdict.opponent == ("fan_out", "redis-core", "rate")
    assert verdict.value == 100
    assert verdict.met


def test_a_rival_at_jobs_gives_each_to_one_of_several_consumers() -> None:
    """Who gives it to all is no rival, however well it looks with one."""
    found = tiny.outcomes()
    target = next(each for each in TARGETS if each.ours[:2] == ("worker_channel_1", "sqlite") and each.rivals)
    assert judge(target, found).opponent == ("worker_channel_1", "redis-pubsub", "rate")
    twice = replace(
        found["worker_channel_4", "redis-pubsub"].samples[0], account=Account(sent=50, received=100, duplicated=50)
    )
    found["worker_channel_4", "redis-pubsub"].samples[0] = twice
    assert judge(target, found).opponent == ("worker_channel_1", "redis-core", "rate")
    del found["worker_channel_2", "redis-core"]
    assert judge(target, found).value is None  # nobody has shown it


def test_a_target_without_an_opponent_is_not_judged() -> None:
    """It is in no table."""
    verdict = judge(
        Target(title="", ours=("fan_out", "sqlite", "rate"), rivals=(("fan_out", "none", "rate"),)), tiny.outcomes()
    )
    assert verdict.value is None
    assert verdict.met is None


def test_targets_name_figures_that_exist() -> None:
    """A workload that is renamed must not silence its targets."""
    figures = {(each.name, figure.name) for each in WORKLOADS for figure in each.figures}
    for target in TARGETS:
        for place in filter(None, (target.ours, target.theirs, *target.rivals)):
            assert (place[0], place[2]) in figures, target.title
        assert set(target.proofs) <= {each.name for each in WORKLOADS}, target.title


@pytest.mark.leaks_allowed("matplotlib keeps its fonts open")
def test_plots_are_drawn_and_marked(tmp_path: Path) -> None:
    """As SVG and PNG, and the same each time."""
    files = list(draw_all(SUMMARY, tmp_path / "plots"))
    assert {path.name for path in files} == {f"{name}.{kind}" for name in PLOTS for kind in ("svg", "png")}
    assert all(path.stat().st_size > 5_000 for path in files)
    latency = (tmp_path / "plots" / "latency.svg").read_text()
    assert "overloaded</text>" in latency
    assert "channels_trunk SQLite</text>" in latency
    again = next(path for path in draw_all(SUMMARY, tmp_path / "again") if path.name == "one-way.svg")
    assert again.read_text() == (tmp_path / "plots" / "one-way.svg").read_text()


def test_pages_get_their_tables() -> None:
    """Between the markers, with remarks on faults, and nothing else is touched."""
    page = "before\n<!-- figures: short -->\nold\n<!-- end of figures -->\nafter\n"
    text = filled(page, SUMMARY, folder=Path())
    assert text.startswith("before\n<!-- figures: short -->\n")
    assert text.endswith("<!-- end of figures -->\nafter\n")
    assert "old" not in text
    assert "| **channels_trunk SQLite** | 1,000 | 0.001 | 0.001 | 1,000 | 1,000 |" in text
    assert "| channels_redis pubsub | 100 | 0.01 | 0.01 | 100 † | 100 |" in text
    assert (
        "† channels_redis pubsub: 14 lost (to 1,000 members, deliveries/s); channels_redis core: overloaded (" in text
    )
    assert filled(text, SUMMARY, folder=Path()) == text


@pytest.mark.parametrize(
    "block",
    ["machine", "run", "short", "more", "senders", "within", "idle", "processes", "groups", "limits", "targets"],
)
def test_every_block_has_a_table(block: str) -> None:
    """For any run."""
    text = filled(f"<!-- figures: {block} -->\n<!-- end of figures -->", SUMMARY, folder=Path())
    assert "|---|" in text or block in {"machine", "run"}
    assert "Not measured" not in text


def test_a_block_that_nobody_makes_is_an_error() -> None:
    """A typing error must not leave old figures in place."""
    with pytest.raises(KeyError, match="no-such"):
        filled("<!-- figures: no-such -->\n<!-- end of figures -->", SUMMARY, folder=Path())


def test_a_page_shows_the_plots_that_there_are(tmp_path: Path) -> None:
    """By a way from the page to the plot."""
    (tmp_path / "growth.svg").touch()
    page = "".join(f"<!-- figures: plot-{name} -->\n<!-- end of figures -->\n" for name in ("growth", "latency"))
    text = filled(page, SUMMARY, folder=tmp_path / "docs", plots=tmp_path)
    assert "by layer](../growth.svg)" in text
    assert text.count("Not measured in this run.") == 1
    assert set(PLOT_WORDS) == set(PLOTS)
