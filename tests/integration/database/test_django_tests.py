"""The layer in Django's own test cases, run by `manage.py test`: on the test database, never on the real one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.database.conftest import ENGINES
from tests.plugins.django_databases import mariadb_entry, postgres_entry, sqlite_entry
from tests.plugins.servers.mariadb import MariaDbServer
from tests.plugins.servers.postgres_server import PostgresServer, dsn_for

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = """
import json, os
SECRET_KEY = "tests only"
INSTALLED_APPS = ["channels", "channels_trunk"]
DATABASES = json.loads(os.environ["SITE_DATABASES"])
DATABASE_ROUTERS = ["channels_trunk.routers.TrunkRouter"]
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_trunk.layers.DatabaseChannelLayer",
        "CONFIG": {"database": os.environ["SITE_ALIAS"]},
    },
}
USE_TZ = True
"""
CASES = """
import os
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.test import TestCase, TransactionTestCase

ALIAS = os.environ["SITE_ALIAS"]

class Exchange:
    databases = {"default", ALIAS}

    def exchange(self):
        layer = get_channel_layer()
        async_to_sync(layer.send)("note", {"type": "hello"})
        assert layer.sync.receive("note", timeout=20) == {"type": "hello"}
        channel = layer.sync.new_channel()
        layer.sync.group_add("group", channel)
        layer.sync.group_send("group", {"type": "hello"})
        assert layer.sync.receive(channel, timeout=20) == {"type": "hello"}

    def test_one(self):
        self.exchange()

    def test_two(self):
        self.exchange()

class RolledBack(Exchange, TestCase):
    async def test_in_a_loop(self):
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.send(channel, {"type": "hello"})
        assert await layer.receive(channel) == {"type": "hello"}

class Flushed(Exchange, TransactionTestCase):
    pass
"""
SIMPLE = """
from channels.layers import get_channel_layer
from channels_trunk.exceptions import ChannelLayerError
from django.test import SimpleTestCase

class WithoutDatabase(SimpleTestCase):
    def test_the_real_one_is_not_touched(self):
        with self.assertRaisesRegex(ChannelLayerError, "not allowed"):
            get_channel_layer().sync.send("note", {"type": "hello"})
"""


def run_tests(folder: Path, databases: dict[str, Any], alias: str, cases: str) -> str:
    """Run test cases in a site of their own; return what was printed."""
    (folder / "site_settings.py").write_text(SETTINGS)
    (folder / "test_cases.py").write_text(cases)
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), *sys.path]),
        "SITE_DATABASES": json.dumps(databases),
        "SITE_ALIAS": alias,
    }
    command = [sys.executable, "-m", "django", "test", "--noinput", "test_cases"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def entry_of(engine: str, request: pytest.FixtureRequest, *, folder: Path, name: str) -> dict[str, Any]:
    """An entry of DATABASES whose database does not exist; Django makes a test database beside it."""
    if engine == "sqlite_alias":
        return {**sqlite_entry(folder / "real.sqlite3"), "TEST": {"NAME": str(folder / "test.sqlite3")}}
    if engine == "postgres_alias":
        server: PostgresServer = request.getfixturevalue("postgres")
        return postgres_entry(dsn_for(server.superuser_dsn, database=name))
    if engine == "mariadb_alias":
        maria: MariaDbServer = request.getfixturevalue("mariadb")
        return mariadb_entry(f"{maria.administrator_url.rstrip('/')}/{name}")
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "real.sqlite3")}


@pytest.mark.parametrize("alias", ["default", "messages"])
@pytest.mark.parametrize("engine", [*ENGINES, "in_memory"])
def test_test_cases(engine: str, alias: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    entry = entry_of(engine, request, folder=tmp_path, name=f"never_made_{alias}")
    plain = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "plain.sqlite3")}
    databases = {"default": plain, "messages": plain, alias: entry}
    output = run_tests(tmp_path, databases, alias, CASES)
    assert "Ran 5 tests" in output
    assert not list(tmp_path.glob("*.sqlite3")), "a real database was made"


def test_test_cases_that_may_not_use_the_database(tmp_path: Path) -> None:
    databases = {"default": sqlite_entry(tmp_path / "real.sqlite3")}
    run_tests(tmp_path, databases, "default", SIMPLE)
    assert not list(tmp_path.glob("*.sqlite3*"))
