"""A test run on SQLite leaves no file and no socket behind, however its processes end."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_runs.runs import Run
from tests.plugins.django_databases import sqlite_entry

pytestmark = pytest.mark.timeout(300)

SQLITE = "channels_trunk.layers.SQLiteChannelLayer"
ORM = "channels_trunk.layers.DatabaseChannelLayer"
LAYERS = {
    "default": {"BACKEND": SQLITE},
    "alias": {"BACKEND": SQLITE, "CONFIG": {"database": "default"}},
    "orm": {"BACKEND": ORM, "CONFIG": {"database": "default"}},
}


def databases_in(folder: Path) -> dict[str, Any]:
    # Where it is in WAL mode, Django copies the file alone, and so an empty one.
    entry = sqlite_entry(folder / "real.sqlite3", init_command="")
    return {"default": {**entry, "TEST": {"NAME": str(folder / "test.sqlite3")}}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, databases_in(tmp_path), LAYERS)


def test_one_test_case(run: Run) -> None:
    assert "Ran 2 tests" in run.manage("site_cases", "site_overridden_cases.Overridden")
    assert run.left_behind() == set()


def test_in_parallel(run: Run) -> None:
    output = run.manage("--parallel=2", "site_cases", "site_more_cases", start_method="fork")
    assert "Cloning" in output
    assert run.left_behind() == set()


def test_in_parallel_without_the_app(tmp_path: Path) -> None:
    """Only the processes of the pool know the layer: they leave in order, though they end without atexit."""
    settings = "INSTALLED_APPS = ['channels']\nDATABASE_ROUTERS = []"
    run = Run(tmp_path, databases_in(tmp_path), {"default": LAYERS["default"]}, settings=settings)
    run.manage("--parallel=2", "site_cases", "site_more_cases", start_method="fork")
    assert run.left_behind() == {"test_1.channels.sqlite3", "test_2.channels.sqlite3"}


def test_kept(run: Run) -> None:
    """Django's own file stays, the layer's goes."""
    for _ in range(2):
        assert "Ran 1 test" in run.manage("--keepdb", "site_cases")
        assert run.left_behind() == {"test.sqlite3"}


def test_live_servers(run: Run) -> None:
    """Channels ends the process of its server by a signal."""
    assert "Ran 2 tests" in run.manage("site_live_cases", start_method="fork")
    assert run.left_behind() == set()


def test_pytest(run: Run) -> None:
    assert "1 passed" in run.pytest("site_cases.py")
    assert run.left_behind() == set()


def test_xdist(run: Run) -> None:
    assert "3 passed" in run.pytest("-n2", "site_cases.py", "site_more_cases.py")
    assert run.left_behind() == set()


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_in_memory(start_method: str, tmp_path: Path) -> None:
    run = Run(tmp_path, {"default": sqlite_entry(tmp_path / "real.sqlite3", init_command="")}, LAYERS)
    run.manage("--parallel=2", "site_cases", "site_more_cases", "site_early_cases", start_method=start_method)
    assert run.left_behind() <= {"real.channels.sqlite3"}, "the layer that was used too early made this one"


def test_tests_that_may_use_no_database(run: Run) -> None:
    run.manage("site_simple_cases")
    assert run.left_behind() == set()


def test_what_goes_on_after_the_tests(run: Run) -> None:
    output = run.manage("site_late_cases")
    assert output.count("it ended: Django has dropped the test database") == 3
    assert output.count("it heard: the layer was closed: Django") == 3
    assert run.left_behind() == set()
