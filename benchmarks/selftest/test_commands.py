"""The commands themselves: run.py and publish.py."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import publish
import pytest
from selftest import tiny
from trunkbench.summary import Summary

# By its place: the chat's command has the same name, and is a module of the same test run.
RUN_FILE = Path(__file__).parents[1] / "run.py"
_spec = importlib.util.spec_from_file_location("benchmarks_run", RUN_FILE)
assert _spec is not None
assert _spec.loader is not None
run = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run)
RUN = [sys.executable, str(RUN_FILE)]


def test_a_run_writes_samples_report_and_plots(tmp_path: Path) -> None:
    """One small measurement without a layer."""
    options = [
        "--only",
        "bare_futures",
        "--layers",
        "memory",
        "--seconds",
        "0.15",
        "--rounds",
        "1",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run([*RUN, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 measurements of 0.15 s of memory" in done.stderr
    assert "this will take about 0:0" in done.stderr
    assert "| bare machine |" in done.stdout
    assert (tmp_path / "report.md").read_text() in done.stdout
    results = json.loads((tmp_path / "result.json").read_text())["results"]
    assert results[0]["samples"][0]["figures"]["rate"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--layers", "nobody"], "unknown layer nobody; there are "),
        (["--only", "nothing"], "unknown workload nothing; there are "),
        (["--postgres", "fsync"], "--postgres takes NAME=VALUE, not fsync"),
    ],
)
def test_a_wrong_option_is_refused(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what there is instead."""
    with pytest.raises(SystemExit):
        run.parse(options)
    assert words in capsys.readouterr().err


def test_quick_and_full_have_their_own_rounds_and_time() -> None:
    """Unless they are given."""
    assert (run.parse(["--quick"]).rounds, run.parse([]).rounds) == (1, 3)
    assert run.parse(["--quick"]).minutes < 3
    assert run.parse([]).minutes < 30
    assert run.parse(["--rounds", "2", "--minutes", "5"]).minutes == 5


@pytest.mark.leaks_allowed("matplotlib keeps its fonts open")
def test_a_result_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Summary, plots and pages; a page that somebody changed by hand is found."""
    page = tmp_path / "page.md"
    page.write_text("<!-- figures: short -->\n<!-- end of figures -->\n")
    places = {
        "ROOT": tmp_path,
        "PAGES": ("page.md",),
        "PLOTS": tmp_path / "plots",
        "RESULT": tmp_path / "kept" / "published.json",
    }
    for name, place in places.items():
        monkeypatch.setattr(publish, name, place)
    result = tmp_path / "result.json"
    result.write_text(json.dumps(tiny.report().as_data()))

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["publish.py", *arguments])
        return publish.main()

    assert call(str(result)) == 0
    assert Summary.load(json.loads((tmp_path / "kept" / "published.json").read_text())).rows == tiny.summary().rows
    assert (tmp_path / "plots" / "growth.png").exists()
    assert "| **channels_trunk SQLite** | 1,000 |" in page.read_text()
    assert call("--check") == 0
    page.write_text(page.read_text().replace("1,000 |", "9,000 |", 1))
    assert call("--check") == 1
    assert "page.md: has other figures than the summary" in capsys.readouterr().out
    assert call() == 0
    assert call("--check") == 0
