"""Django makes, copies and drops its test databases on PostgreSQL, whatever the layer has done meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from psycopg import sql

from tests.integration.test_runs.runs import Run
from tests.plugins.django_databases import postgres_entry
from tests.plugins.servers.postgres_server import PostgresServer, dsn_for

pytestmark = pytest.mark.timeout(300)

NATIVE = "channels_trunk.layers.PostgresChannelLayer"
ORM = "channels_trunk.layers.DatabaseChannelLayer"
KEYS = ("NAME", "USER", "PASSWORD", "HOST", "PORT")


class Site(NamedTuple):
    """A server, and a database whose owner may make others."""

    server: PostgresServer
    dsn: str

    @property
    def name(self) -> str:
        return urlsplit(self.dsn).path.lstrip("/")

    @property
    def databases(self) -> dict[str, Any]:
        """The same without psycopg's pool and with it."""
        entry = postgres_entry(self.dsn)
        return {"default": entry, "pooled": {**entry, "NAME": f"{self.name}_pooled", "OPTIONS": {"pool": True}}}

    def query(self, what: str) -> list[str]:
        """The names of databases that are there, or in use, and have to do with this one."""
        rows = self.server.execute(sql.SQL("SELECT DISTINCT datname FROM {} ORDER BY 1").format(sql.Identifier(what)))
        return [name for (name,) in rows if isinstance(name, str) and self.name in name]

    def test_databases(self) -> list[str]:
        return [name for name in self.query("pg_database") if name != self.name]


@pytest.fixture
def site(postgres: PostgresServer) -> Iterator[Site]:
    site = Site(postgres, postgres.fresh_database())
    owner = sql.Identifier(urlsplit(site.dsn).username or "")
    postgres.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(owner))
    yield site
    for name in site.query("pg_database"):
        postgres.drop_database(dsn_for(site.dsn, database=name))


@pytest.fixture
def run(site: Site, tmp_path: Path) -> Run:
    layers = {
        "default": {"BACKEND": NATIVE},
        "pooled": {"BACKEND": NATIVE, "CONFIG": {"database": "pooled"}},
        "orm": {"BACKEND": ORM, "CONFIG": {"database": "default"}},
        "orm_pooled": {"BACKEND": ORM, "CONFIG": {"database": "pooled"}},
    }
    return Run(tmp_path, site.databases, layers)


class TestModes:
    def test_one_test_case(self, run: Run, site: Site) -> None:
        assert "Ran 2 tests" in run.manage("site_cases", "site_overridden_cases.Overridden")
        assert site.test_databases() == []

    @pytest.mark.parametrize("start_method", ["fork", "spawn"])
    def test_in_parallel(self, run: Run, site: Site, start_method: str) -> None:
        output = run.manage("--parallel=2", "site_cases", "site_more_cases", start_method=start_method)
        assert "Cloning" in output
        assert site.test_databases() == []

    def test_kept(self, run: Run, site: Site) -> None:
        for _ in range(2):
            assert "Ran 1 test" in run.manage("--keepdb", "site_cases")
            assert site.test_databases() == [f"test_{site.name}", f"test_{site.name}_pooled"]

    @pytest.mark.parametrize("start_method", ["fork", "spawn"])
    def test_live_servers(self, run: Run, site: Site, start_method: str) -> None:
        """In a thread and in a process, which a fork gives a name that Channels gets wrong."""
        assert "Ran 2 tests" in run.manage("site_live_cases", start_method=start_method)
        assert site.test_databases() == []

    def test_pytest(self, run: Run, site: Site) -> None:
        assert "1 passed" in run.pytest("site_cases.py")
        assert site.test_databases() == []

    def test_pytest_reuses(self, run: Run, site: Site) -> None:
        for _ in range(2):
            assert "1 passed" in run.pytest("--reuse-db", "site_cases.py")
            assert site.test_databases() == [f"test_{site.name}", f"test_{site.name}_pooled"]

    def test_xdist(self, run: Run, site: Site) -> None:
        assert "3 passed" in run.pytest("-n2", "site_cases.py", "site_more_cases.py")
        assert site.test_databases() == []


def test_layers_that_name_the_test_database(site: Site, tmp_path: Path) -> None:
    entry = postgres_entry(dsn_for(site.dsn, database=f"test_{site.name}"))
    layers = {
        "default": {"BACKEND": NATIVE, "CONFIG": {"dsn": dsn_for(site.dsn, database=entry["NAME"])}},
        "keys": {"BACKEND": NATIVE, "CONFIG": {name: entry[name] for name in KEYS}},
    }
    run = Run(tmp_path, {"default": site.databases["default"]}, layers)
    assert "Ran 1 test" in run.manage("site_cases")
    assert site.test_databases() == []


class TestTheRealDatabase:
    def test_a_layer_that_was_used_before(self, run: Run, site: Site) -> None:
        run.write("site_where.py", WHERE)
        output = run.manage("site_early_cases", "site_where")
        assert f"in use: ['test_{site.name}', 'test_{site.name}_pooled']" in output
        assert site.test_databases() == []

    def test_tests_that_may_use_no_database(self, run: Run, site: Site) -> None:
        run.manage("site_simple_cases")
        assert site.server.execute("SELECT 1 FROM pg_class WHERE relname LIKE 'trunk%'", dsn=site.dsn) == []

    def test_what_goes_on_after_the_tests(self, run: Run, site: Site) -> None:
        output = run.manage("site_late_cases")
        assert output.count("it ended: Django has dropped the test database") == 4
        assert output.count("it heard: the layer was closed: Django") == 4
        assert site.test_databases() == []
        assert site.server.execute("SELECT 1 FROM pg_class WHERE relname LIKE 'trunk%'", dsn=site.dsn) == []


WHERE = """
import os
from site_cases import Sends
from django.db import connection

class Looks(Sends):
    def test_looks(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT DISTINCT datname FROM pg_stat_activity WHERE usename = current_user ORDER BY 1")
            print("in use:", [name for (name,) in cursor.fetchall()], flush=True)
"""
