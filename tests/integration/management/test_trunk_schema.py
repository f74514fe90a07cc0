"""`manage.py trunk_schema`: what it prints makes tables that a role without rights can use, and removes them."""

import io
import re
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from channels_trunk.exceptions import SchemaMismatch
from channels_trunk.layers import PostgresChannelLayer
from tests.plugins.servers import PostgresServer, dsn_for

POSTGRES = "channels_trunk.layers.PostgresChannelLayer"
MEMORY = "channels_trunk.layers.MemoryChannelLayer"


def printed(config: Mapping[str, Any], *options: str, backend: str = POSTGRES) -> str:
    """What the command prints for such a layer."""
    output = io.StringIO()
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": backend, "CONFIG": dict(config)}}):
        call_command("trunk_schema", *options, stdout=output)
    return output.getvalue()


@pytest.fixture(autouse=True)
def apps_with_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is found as in a project that has the app."""
    monkeypatch.setattr("django.core.management.get_commands", lambda: {"trunk_schema": "channels_trunk"})


def run(dsn: str, script: str) -> None:
    """As psql does."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(script.encode())


def relations(dsn: str, schema: str = "public") -> set[str]:
    """Tables, sequences and functions."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT relname::text FROM pg_class WHERE relnamespace = %(s)s::regnamespace AND relkind IN ('r', 'S') "
            "UNION SELECT proname::text FROM pg_proc WHERE pronamespace = %(s)s::regnamespace",
            {"s": schema},
        )
        return {name for (name,) in found}


EVERYTHING = {
    f"trunk_{name}"
    for name in ("meta", "state", "log_0", "log_1", "queue", "queue_ids", "members", "nodes", "publish", "rotate")
}


def exchange(layer: PostgresChannelLayer) -> None:
    """Use whatever the layer has in the database."""
    try:
        channel = layer.sync.new_channel()
        layer.sync.group_add("room", channel)
        layer.sync.group_add("room", "jobs")
        layer.sync.group_send("room", {"type": "hello"})
        assert [layer.sync.receive(name, timeout=10) for name in (channel, "jobs")] == [{"type": "hello"}] * 2
        layer.sync.group_discard("room", "jobs")
        layer.sync.flush()
        assert layer.health().state == "ok"
    finally:
        layer.sync.close()


def test_the_owner_runs_it_and_a_role_without_rights_uses_it(postgres: PostgresServer, postgres_database: str) -> None:
    script = printed({"dsn": postgres_database, "schema": "public"})
    guest = postgres.create_role(postgres_database)
    layer = PostgresChannelLayer(dsn=guest, schema="public", auto_create=False)
    with pytest.raises(SchemaMismatch, match=r"run the statements that `manage\.py trunk_schema` prints"):
        layer.sync.send("jobs", {"type": "work"})
    layer.sync.close()
    run(postgres_database, script)
    run(postgres_database, script)  # does no harm
    assert relations(postgres_database) == EVERYTHING
    name = re.search(r"guest_\w+?(?=:)", guest)
    assert name
    grants = [line.removeprefix("-- ") for line in script.splitlines() if line.startswith("-- GRANT")]
    assert len(grants) == 6
    for grant in grants:
        if "MAINTAIN" not in grant:
            run(postgres_database, grant.replace("TO application", f'TO "{name[0]}"'))
    exchange(layer)


def test_every_table_is_emptied_and_tidied_with_these_rights(postgres: PostgresServer, postgres_database: str) -> None:
    run(postgres_database, printed({"dsn": postgres_database}))
    guest = postgres.create_role(postgres_database)
    role = psycopg.conninfo.conninfo_to_dict(guest)["user"]
    for line in printed({"dsn": postgres_database}).splitlines():
        if line.startswith("-- GRANT") and "MAINTAIN" not in line:
            run(postgres_database, line.removeprefix("-- ").replace("TO application", f'TO "{role}"'))
    with psycopg.connect(guest, autocommit=True) as connection:
        for table in ("state", "log_0", "log_1", "queue", "members", "nodes"):
            connection.execute(f"SELECT * FROM trunk_{table} FOR UPDATE SKIP LOCKED".encode())
            connection.execute(f"DELETE FROM trunk_{table}".encode())
            connection.execute(f"TRUNCATE trunk_{table}".encode())
        connection.execute("SELECT -nextval('trunk_queue_ids')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("INSERT INTO trunk_meta VALUES ('schema_version', 2)")


def test_without_a_schema_the_server_says_where_the_role_makes_tables(postgres_database: str) -> None:
    run(postgres_database, 'CREATE SCHEMA "Live"')
    config = {"dsn": f"{postgres_database}?options=-csearch_path%3D%22Live%22"}
    script = printed(config)
    assert '"Live".trunk_log_0' in script
    run(postgres_database, script)
    assert relations(postgres_database, '"Live"') == EVERYTHING
    exchange(PostgresChannelLayer(**config, auto_create=False))


def test_schema_and_table_prefix_need_no_server() -> None:
    config = {"dsn": "postgresql://user@127.0.0.1:9/nowhere", "schema": "app", "table_prefix": "news_"}
    assert 'CREATE UNLOGGED TABLE IF NOT EXISTS "app".news_log_0' in printed(config)
    assert 'DROP TABLE IF EXISTS "app".news_state' in printed(config, "--drop")


def test_drop_removes_everything(postgres_database: str) -> None:
    config = {"dsn": postgres_database}
    exchange(PostgresChannelLayer(**config))
    assert relations(postgres_database) == EVERYTHING
    run(postgres_database, printed(config, "--drop"))
    run(postgres_database, printed(config, "--drop"))
    assert not relations(postgres_database)


def test_another_alias() -> None:
    layers = {
        "default": {"BACKEND": MEMORY},
        "news": {"BACKEND": POSTGRES, "CONFIG": {"dsn": "dbname=x", "schema": "app"}},
    }
    output = io.StringIO()
    with override_settings(CHANNEL_LAYERS=layers):
        call_command("trunk_schema", "--layer", "news", stdout=output)
    assert '"app".trunk_log_0' in output.getvalue()


def test_a_server_that_is_away_is_said_and_no_password() -> None:
    with pytest.raises(CommandError, match=r"PostgreSQL at 127\.0\.0\.1:9, database app: .*; give 'schema'") as caught:
        printed({"dsn": "postgresql://user:opensesame@127.0.0.1:9/app"})
    assert "opensesame" not in str(caught.value)


def test_a_role_without_a_schema(postgres_database: str) -> None:
    with pytest.raises(CommandError, match="no schema of the role's search_path exists; give 'schema'"):
        printed({"dsn": f"{postgres_database}?options=-csearch_path%3Dnowhere"})


def test_a_wrong_password_is_not_shown(postgres_database: str) -> None:
    with pytest.raises(CommandError, match="authentication failed") as caught:
        printed({"dsn": dsn_for(postgres_database, password="opensesame")})
    assert "opensesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "config", "options", "text"),
    [
        (MEMORY, {}, ["--layer", "news"], "CHANNEL_LAYERS has no 'news'; known: default"),
        (
            MEMORY,
            {},
            [],
            "CHANNEL_LAYERS['default'] is a MemoryChannelLayer: only PostgresChannelLayer has statements to print",
        ),
        (POSTGRES, {"dsn": "dbname=x", "capactiy": 1}, [], "unknown option 'capactiy'; did you mean 'capacity'?"),
        ("channels_trunk.layers.Nothing", {}, [], "CHANNEL_LAYERS['default']: Cannot import BACKEND"),
    ],
)
def test_errors(backend: str, config: dict[str, Any], options: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=re.escape(text)):
        printed(config, *options, backend=backend)
