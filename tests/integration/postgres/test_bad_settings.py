"""Settings that are wrong: what the user is told, when, and that it never holds a password."""

import logging
import re
import traceback
from typing import Any

import pytest
from django.db import connections

from channels_trunk.codec import Codec
from channels_trunk.exceptions import ChannelLayerError, OptionsError, SchemaMismatch, TransportError
from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing.ports import free_port
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.postgres import PostgresSettings, PostgresTransport
from tests.integration.postgres.conftest import HELLO, MakeLayer, ask, works
from tests.plugins.clock import FakeClock
from tests.plugins.servers.postgres_server import PostgresServer, dsn_for
from tests.unit.transports.test_contract import RecordingSink

SECRET = "hunter2-is-the-password"
URL = f"postgresql://someone:{SECRET}@127.0.0.1:1/somewhere"
NAMED = {"NAME": "somewhere", "USER": "someone", "PASSWORD": SECRET, "HOST": "127.0.0.1"}
NO_NAME = "must be at most 41 ASCII letters, digits and underscores"
IN_CONSTRUCTOR: list[tuple[dict[str, Any], str]] = [
    ({"dsn": URL, "database": "default"}, "give one of 'database' and 'dsn', not several"),
    ({"dsn": URL, **NAMED}, "give one of 'dsn' and 'NAME', not several"),
    ({"database": "default", "HOST": "x"}, "give one of 'database' and 'HOST', not several"),
    ({"database": "defualt"}, "'defualt' is not in DATABASES; known: default"),
    ({"database": "default"}, "the database 'default' is not PostgreSQL but django.db.backends.sqlite3"),
    ({}, "the database 'default' is not PostgreSQL but django.db.backends.sqlite3"),
    ({"dsn": f"host=x password={SECRET} nonsense=1"}, "['dsn']: is no connection string or URL that libpq understands"),
    ({"dsn": f"postgresql://someone:{SECRET}@[/x"}, "['dsn']: is no connection string or URL that libpq understands"),
    ({"dsn": f"host=x password='{SECRET}"}, "['dsn']: is no connection string or URL that libpq understands"),
    ({"dsn": ""}, "['dsn']: must be a connection string or URL of libpq"),
    ({"dsn": 5}, "['dsn']: must be a connection string or URL of libpq"),
    ({"dsn": URL, "listen_dsn": f"password={SECRET} what"}, "['listen_dsn']: is no connection string"),
    ({"dsn": URL, "schema": 'a"b'}, f"['schema']: {NO_NAME}"),
    ({"dsn": URL, "schema": ""}, "['schema']: must be a string that is not empty"),
    ({"dsn": URL, "table_prefix": "a b"}, f"['table_prefix']: {NO_NAME}"),
    ({"dsn": URL, "table_prefix": "a" * 42}, f"['table_prefix']: {NO_NAME}"),
    ({"dsn": URL, "auto_create": "no"}, "['auto_create']: must be True or False, not 'no'"),
    ({"dsn": URL, "polling_interval": 0}, "['polling_interval']: must be more than 0 seconds"),
    ({"dsn": URL, "tabel_prefix": "x"}, "unknown option 'tabel_prefix'; did you mean 'table_prefix'?"),
    ({**NAMED, "ENGINE": "django.db.backends.mysql"}, "['ENGINE']: must be an engine for PostgreSQL"),
    ({**NAMED, "PORT": "many"}, "['PORT']: must be the number of a port, not 'many'"),
    ({**NAMED, "PASSWORD": 5}, "['PASSWORD']: must be a string"),
    ({**NAMED, "OPTIONS": ["sslmode"]}, "['OPTIONS']: must be a dict, as in DATABASES"),
    (
        {**NAMED, "OPTIONS": {"sslmoed": "require"}},
        "'OPTIONS' holds what is no parameter of libpq's, nor Django's: 'sslmoed'",
    ),
    ({"USER": "someone", "PASSWORD": SECRET}, "give 'NAME', or a 'service' in 'OPTIONS'"),
]

AS_VERSION_1 = """
DROP FUNCTION trunk_publish, trunk_rotate;
CREATE FUNCTION trunk_publish(
    text, text, bigint, bigint, float8, bytea, text[], text, text[] DEFAULT NULL, float8[] DEFAULT NULL,
    bytea[] DEFAULT NULL, bigint[] DEFAULT NULL, float8 DEFAULT NULL, text[] DEFAULT NULL
) RETURNS bigint[] LANGUAGE sql AS 'SELECT NULL::bigint[]';
CREATE FUNCTION trunk_rotate(bigint, bigint, float8, float8) RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
ALTER TABLE trunk_state DROP COLUMN with_members, DROP COLUMN begun, ADD COLUMN generation bigint NOT NULL DEFAULT 1;
UPDATE trunk_meta SET value = 1 WHERE name = 'schema_version';
"""


def check_secret(error: BaseException, *passwords: str) -> str:
    """No password is in the text, nor in what a traceback would show; return that."""
    shown = "".join(traceback.format_exception(error))
    # The lines of code in a traceback are this file's; its errors are the layer's.
    said = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))
    for password in (SECRET, *passwords):
        assert password not in said
    return str(error)


@pytest.mark.parametrize(("config", "text"), IN_CONSTRUCTOR, ids=lambda value: str(value)[:40] if value else "nothing")
def test_what_the_constructor_refuses(config: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionsError) as caught:
        PostgresChannelLayer(**config)
    assert text in check_secret(caught.value)


def test_an_alias_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = {"ENGINE": "django.db.backends.postgresql", "PASSWORD": SECRET}
    monkeypatch.setitem(connections.settings, "nameless", connections.settings["default"] | engine | {"NAME": ""})
    try:
        with pytest.raises(OptionsError, match="the database 'nameless' has no NAME, nor a 'service'") as caught:
            PostgresChannelLayer(database="nameless")
    finally:
        del connections["nameless"]
    check_secret(caught.value)


def test_what_is_accepted_and_means_nothing_is_no_error() -> None:
    PostgresChannelLayer(**NAMED, PSYCOPG_OPTIONS={"min_size": 5}, CONN_MAX_AGE=60, TEST={}, ATOMIC_REQUESTS=True)


def wrong_database(dsn: str) -> str:
    return dsn_for(dsn, database="no_such_database")


def wrong_password(dsn: str) -> str:
    return dsn_for(dsn, password=SECRET)


def wrong_role(dsn: str) -> str:
    return dsn_for(dsn, user="nobody_of_this_name", password=SECRET)


def wrong_port(dsn: str) -> str:
    return dsn_for(dsn, port=free_port())


def wrong_host(dsn: str) -> str:
    return dsn_for(dsn, host="no-such-host.invalid")


def tls_asked_of_a_server_without(dsn: str) -> str:
    return f"{dsn}?sslmode=require"


def bad_sslmode(dsn: str) -> str:
    return f"{dsn}?sslmode=perhaps"


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (wrong_database, r'database "no_such_database" does not exist'),
        (wrong_password, r"password authentication failed for user"),
        (wrong_role, r"password authentication failed for user"),
        (wrong_port, r"onnection refused"),
        (wrong_host, r"no-such-host.invalid"),
        (tls_asked_of_a_server_without, r"does not support SSL"),
        (bad_sslmode, r"invalid sslmode value"),
    ],
)
async def test_what_the_first_send_is_told(
    make_layer: MakeLayer, postgres_database: str, spoil: Any, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = spoil(postgres_database)
    password = postgres_database.split(":")[2].split("@", maxsplit=1)[0]
    caplog.set_level(logging.DEBUG)
    layer = make_layer(dsn, send_timeout=1)
    with pytest.raises(ChannelLayerError, match=text) as caught:
        await layer.send("jobs", HELLO)
    check_secret(caught.value, password)
    assert re.search(text, layer.health().detail)
    for said in (layer.health().detail, caplog.text, repr(layer), repr(layer.stats())):
        assert password not in said
        assert SECRET not in said


def variables_of(error: BaseException | None) -> str:
    """What the layer's own frames in a traceback, and in that of its cause, would show."""
    shown = ""
    while error is not None:
        for frame, _line in traceback.walk_tb(error.__traceback__):
            if "channels_trunk" in frame.f_code.co_filename:
                shown += repr(frame.f_locals)
        error = error.__cause__
    return shown


@pytest.mark.parametrize("spoil", [wrong_port, lambda dsn: dsn], ids=["not reached", "no such role"])
async def test_no_variable_in_a_traceback_shows_a_password(postgres_database: str, spoil: Any) -> None:
    """Error pages and error trackers show them."""
    settings = PostgresSettings(spoil(postgres_database), role="nobody_of_this_name")
    password = postgres_database.split(":")[2].split("@", maxsplit=1)[0]
    transport = PostgresTransport(lambda: settings)
    codec = Codec(serializer_format="msgpack", cipher=None)
    with pytest.raises(TransportError) as caught:
        await transport.open(NodeContext("n", "asgi", codec, RecordingSink(), FakeClock().as_clock(), lambda _: 1))
    await transport.close(leave=False)
    shown = variables_of(caught.value)
    assert settings.where in shown
    assert password not in shown


# --- roles and tables, in a database where the owner has or has not made them


async def refused(make_layer: MakeLayer, dsn: str, kind: type[Exception], text: str, **config: Any) -> None:
    """The first send raises `kind`, whose text matches."""
    layer = make_layer(dsn, send_timeout=2, **config)
    with pytest.raises(kind, match=text) as caught:
        await layer.send("jobs", HELLO)
    check_secret(caught.value, dsn.split(":")[2].split("@", maxsplit=1)[0])


async def test_a_role_that_may_not_make_tables(
    make_layer: MakeLayer, postgres: PostgresServer, postgres_database: str
) -> None:
    guest = postgres.create_role(postgres_database)
    ask(postgres_database, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    await refused(
        make_layer, guest, TransportError, r"permission denied for schema public.*trunk_schema.*'auto_create'"
    )
    missing = r"tables are missing in schema 'public'; run the statements that `manage.py trunk_schema` prints"
    await refused(make_layer, guest, SchemaMismatch, missing, auto_create=False)
    owner = make_layer(postgres_database)
    await works(owner, owner)
    # The tables are there, and the role may not use them.
    await refused(make_layer, guest, TransportError, r"permission denied for table.*grant the role", auto_create=False)
    await refused(make_layer, guest, TransportError, r"permission denied for table.*grant the role")


async def test_a_role_with_the_rights_that_are_printed(
    make_layer: MakeLayer, postgres: PostgresServer, postgres_database: str
) -> None:
    guest = postgres.create_role(postgres_database)
    ask(postgres_database, "CREATE SCHEMA rooms")
    script = PostgresChannelLayer(dsn=postgres_database, schema="rooms").schema_script()
    name = guest.split("//")[1].split(":")[0]
    grants = [line[3:] for line in script.splitlines() if line.startswith("-- GRANT") and "MAINTAIN" not in line]
    ask(postgres_database, script)
    for grant in grants:
        ask(postgres_database, grant.replace("TO application", f"TO {name}"))
    here, there = (make_layer(guest, schema="rooms", auto_create=False) for _ in range(2))
    await works(here, there)
    await here.flush()
    # Emptying the log and forgetting nodes need rights, too.
    # Before the clock is helped on: it may be done at once.
    before = ask(postgres_database, "SELECT active FROM rooms.trunk_state")
    ask(postgres_database, "UPDATE rooms.trunk_state SET emptied_at = now() - interval '1 hour'")
    await here.send((await there.new_channel()), HELLO)
    await eventually_changed(postgres_database, before)
    assert here.stats().reconnects_total == 0


async def eventually_changed(dsn: str, before: list[Any]) -> None:
    """The layer's own maintenance empties a log."""
    from channels_trunk.testing import eventually

    await eventually(lambda: ask(dsn, "SELECT active FROM rooms.trunk_state") != before, within=20)


def set_default(dsn: str, setting: str) -> None:
    """What new sessions in this database begin with."""
    writable = f"{dsn}?options=-cdefault_transaction_read_only%3Doff%20-cstatement_timeout%3D0"
    ask(writable, f'ALTER DATABASE "{dsn.rpartition("/")[2]}" SET {setting}')


async def test_a_schema_that_is_not_there(make_layer: MakeLayer, postgres_database: str) -> None:
    text = r"""there is no schema 'Rooms', as the option 'schema' has it; .*CREATE SCHEMA "Rooms", or give another"""
    for auto_create in (True, False):
        config = {"schema": "Rooms", "auto_create": auto_create}
        await refused(make_layer, postgres_database, SchemaMismatch, text, **config)
    odd = """it's "odd" {p}"""
    quoted = odd.replace('"', '""')
    ask(postgres_database, f'CREATE SCHEMA "{quoted}"')
    set_default(postgres_database, f'search_path = "{quoted}"')
    text = r"name of the schema .*odd.* quotes.*; give another by 'schema'"
    await refused(make_layer, postgres_database, SchemaMismatch, text)
    set_default(postgres_database, "search_path = nowhere")
    text = r"no schema of the role's search_path exists; give 'schema'"
    await refused(make_layer, postgres_database, SchemaMismatch, text)


async def test_tables_of_a_newer_version(make_layer: MakeLayer, postgres_database: str) -> None:
    layer = make_layer(postgres_database)
    await works(layer, layer)
    await layer.close()
    ask(postgres_database, "UPDATE trunk_meta SET value = 99 WHERE name = 'schema_version'")
    text = r"tables are of version 99, and this channels-trunk knows 2: upgrade channels-trunk"
    await refused(make_layer, postgres_database, SchemaMismatch, text)


async def test_tables_of_an_older_version(make_layer: MakeLayer, postgres_database: str) -> None:
    """They are made new where that is allowed; what uses them meanwhile goes on."""
    layer = make_layer(postgres_database)
    await works(layer, layer)
    await layer.close()
    ask(postgres_database, AS_VERSION_1)
    text = r"tables are of version 1, and this channels-trunk needs 2: run the statements that `manage.py trunk_schema`"
    await refused(make_layer, postgres_database, SchemaMismatch, text, auto_create=False)
    await works(make_layer(postgres_database), make_layer(postgres_database))
    functions = "SELECT proname::text FROM pg_proc WHERE proname LIKE 'trunk%' ORDER BY 1"
    assert ask(postgres_database, functions) == [("trunk_publish",), ("trunk_rotate",)]
    assert ask(postgres_database, "SELECT value FROM trunk_meta") == [(2,)]


async def test_a_session_default_that_would_be_wrong_is_not_used(make_layer: MakeLayer, postgres_database: str) -> None:
    settings = {
        "default_transaction_isolation": "'repeatable read'",
        "default_transaction_read_only": "on",
        "lock_timeout": "1",
        "idle_in_transaction_session_timeout": "1",
        "client_encoding": "'LATIN1'",
        "bytea_output": "'escape'",
        "standard_conforming_strings": "off",
        "DateStyle": "'German'",
    }
    for name, value in settings.items():
        set_default(postgres_database, f"{name} = {value}")
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    await works(here, there)


async def test_a_statement_timeout_of_the_role(make_layer: MakeLayer, postgres_database: str) -> None:
    set_default(postgres_database, "statement_timeout = '1ms'")
    here, there = (make_layer(postgres_database, send_timeout=30) for _ in range(2))
    await works(here, there)


async def test_rights_that_are_taken_away_while_the_layer_works(make_layer: MakeLayer, postgres_database: str) -> None:
    layer = make_layer(postgres_database)
    await works(layer, layer)
    ask(postgres_database, "REVOKE ALL ON trunk_queue, trunk_log_0, trunk_log_1 FROM CURRENT_USER")
    with pytest.raises(TransportError, match="permission denied"):
        await layer.send("jobs", HELLO)
    ask(postgres_database, "GRANT ALL ON trunk_queue, trunk_log_0, trunk_log_1 TO CURRENT_USER")
    await works(layer, layer)
