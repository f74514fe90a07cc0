"""Entries of DATABASES whose engine is somebody's own, or has options that libpq does not know."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections
from django.test import override_settings

from channels_trunk.exceptions import OptionsError
from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from tests.integration.postgres import minting
from tests.integration.postgres.conftest import MakeLayer, ask, sessions, terminate, works
from tests.plugins.servers.postgres_server import PostgresServer

ALIAS = "rooms"
DJANGOS = "django.db.backends.postgresql"
MINTING = "tests.integration.postgres.minting"
AddDatabase = Callable[..., None]


@pytest.fixture
def add_database(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AddDatabase]:
    """Puts the test's database into DATABASES, by this engine and with these options."""
    parts = psycopg.conninfo.conninfo_to_dict(postgres_database)

    def add(engine: str, **options: Any) -> None:
        default = connections.settings["default"]
        entry = {
            "ENGINE": engine,
            "NAME": parts["dbname"],
            "USER": parts["user"],
            "PASSWORD": parts["password"],
            "HOST": parts["host"],
            "PORT": parts["port"],
            "OPTIONS": options,
            "TEST": default["TEST"] | {"NAME": parts["dbname"]},
        }
        monkeypatch.setitem(connections.settings, ALIAS, default | entry)

    monkeypatch.setattr(minting, "passwords", [str(parts["password"])])
    monkeypatch.setattr(minting, "asked", [])
    yield add
    with suppress(AttributeError):  # nobody in this thread has used it
        del connections[ALIAS]


@pytest.mark.parametrize("name", ["max_conns", "MAX_CONNS"])
def test_the_option_that_libpq_does_not_know_is_named(add_database: AddDatabase, name: str) -> None:
    add_database(DJANGOS, **{name: 4, "sslmode": "prefer", "pool": False})
    with pytest.raises(OptionsError, match=f"database 'rooms': 'OPTIONS' holds .* nor Django's: '{name}'$"):
        PostgresChannelLayer(database=ALIAS)
    backend = {"BACKEND": "channels_trunk.layers.PostgresChannelLayer", "CONFIG": {"database": ALIAS}}
    with (
        override_settings(CHANNEL_LAYERS={"default": backend}),
        pytest.raises(SystemCheckError, match=rf"E001\).*'{name}'"),
    ):
        call_command("check")


async def test_an_engine_that_wraps_another_may_bring_options_of_its_pool(
    add_database: AddDatabase, make_layer: MakeLayer
) -> None:
    add_database(MINTING, MAX_CONNS=4, REUSE_CONNS=2)
    layer = make_layer(database=ALIAS)
    await works(layer, layer)


async def test_a_password_that_holds_for_a_while_is_fetched_for_each_connection(
    add_database: AddDatabase, make_layer: MakeLayer, postgres: PostgresServer, postgres_database: str
) -> None:
    add_database(MINTING)
    here, there = make_layer(database=ALIAS), make_layer(postgres_database)
    assert minting.asked == []
    await works(here, there)
    before = len(minting.asked)
    assert before >= 3
    minting.passwords.append("another-password")
    ask(postgres_database, "ALTER ROLE CURRENT_USER PASSWORD 'another-password'")
    try:
        for purpose in ("keep", "listen", "write"):
            assert terminate(postgres, postgres_database, f"{purpose} {here._hub.context.node}") == 1
        await works(here, there)
        await eventually(lambda: len(minting.asked) >= before + 3, within=20)
    finally:
        ask(
            postgres_database.replace(minting.passwords[0], "another-password"),
            f"ALTER ROLE CURRENT_USER PASSWORD '{minting.passwords[0]}'",
        )
    assert set(minting.asked[before:]) == {"another-password"}
    assert here.stats().reconnects_total == 0  # the sessions were made again, and not the whole layer


async def test_a_limit_for_idle_sessions_ends_none_of_the_layers(
    make_layer: MakeLayer, postgres: PostgresServer, postgres_database: str
) -> None:
    if postgres.execute("SELECT current_setting('server_version_num')::int < 140000") == [(True,)]:
        pytest.skip("the server knows no such limit")
    name = psycopg.conninfo.conninfo_to_dict(postgres_database)["dbname"]
    ask(postgres_database, f"ALTER DATABASE {name} SET idle_session_timeout = '200ms'")
    layer = make_layer(postgres_database)
    await works(layer, layer)
    pids = "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE application_name LIKE 'channels-trunk %%'"
    heartbeats = "SELECT extract(epoch FROM max(seen_at))::float8 FROM trunk_nodes"
    before, [(seen_at,)] = ask(postgres_database, pids), ask(postgres_database, heartbeats)
    await eventually(lambda: ask(postgres_database, heartbeats)[0][0] > seen_at + 2, within=30)
    assert ask(postgres_database, pids) == before
    assert len(sessions(postgres_database)) == 3
