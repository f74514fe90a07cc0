"""Connections: how each is made and set up, and the creation of the tables."""

import traceback
from collections.abc import Callable
from typing import Any

import psycopg

from channels_trunk.exceptions import SchemaMismatch, TransportUnavailable
from channels_trunk.transports.fork_gate import connecting

from .ddl import check_schema_name, creation_script
from .names import SCHEMA_VERSION, Names
from .settings import PostgresSettings
from .wire import Notice, Statement, Wire

__all__ = ["MINIMUM_SERVER", "connect", "ensure_schema", "find_names"]

MINIMUM_SERVER = 12_00_00
_FIND_OUT = "SELECT pg_backend_pid(), current_setting('default_transaction_isolation'), pg_is_in_recovery()"
# For our own sessions, whatever the role or the database has for the application's. What is stored is UNLOGGED, so a
# commit has nothing to wait for; a role's time limits are for its statements, not for ours, which wait for each other.
# A process that stands still in the middle of a transaction does not keep what it has taken out of a normal channel.
_SET_UP = (
    "SET synchronous_commit = off; SET default_transaction_isolation = 'read committed'; "
    "SET default_transaction_read_only = off; SET statement_timeout = 0; SET lock_timeout = '2s'; "
    # Arrays of parameters make the server plan each call anew, which takes longer than the call; and a plan that it
    # made while a table was empty must not read all of it when it is not.
    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; "
    "SET idle_in_transaction_session_timeout = '15s'; SET client_min_messages = error; SET client_encoding = 'UTF8'"
)
# Sessions that listen are idle, and so are those of a process in which nothing happens.
_SET_UP_FROM_14 = "; SET idle_session_timeout = 0"


async def connect(
    settings: PostgresSettings,
    *,
    listening: bool,
    application_name: str,
    on_notices: Callable[[list[Notice]], None],
    on_came: Callable[[], None],
    on_lost: Callable[[Exception], None],
) -> Wire:
    """Connect and set up; raises TransportUnavailable, whose text names no password."""
    # Until somebody knows of the connection: a child that has its socket, and does not know, keeps the session alive.
    async with connecting.passing():
        connection = await _connected(settings, listening=listening, application_name=application_name)
        try:
            wire = Wire(connection, on_notices=on_notices, on_came=on_came, on_lost=on_lost)
        except OSError as error:
            connection.pgconn.finish()
            raise TransportUnavailable(f"{settings.where}: {error}") from None
        try:
            await _set_up(wire, settings)
        except BaseException:
            wire.close()
            raise
    return wire


async def _connected(
    settings: PostgresSettings, *, listening: bool, application_name: str
) -> "psycopg.AsyncConnection[Any]":
    try:
        # Not in a variable of ours, which something that shows a traceback might show as well.
        return await psycopg.AsyncConnection.connect(
            settings.conninfo(listening=listening, application_name=application_name), autocommit=True
        )
    except BaseException as error:
        # psycopg leaves the socket of an attempt that was cancelled, or took too long, to the collector. It is held by
        # the frames of this error, and the error by whoever logs it or looks at the task.
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, psycopg.OperationalError):
            raise TransportUnavailable(f"{settings.where}: {_said(error)}") from None
        raise


async def _set_up(wire: Wire, settings: PostgresSettings) -> None:
    [(pid, isolation, is_standby)] = await wire.simple(_FIND_OUT)
    if is_standby:
        # It will be promoted, or the address lead to the primary again. Its unlogged tables it refuses to show in words
        # that could mean anything.
        raise TransportUnavailable(f"{settings.where}: the server is a standby in recovery, which only reads")
    if pid == wire.pid:
        newer = _SET_UP_FROM_14 if wire.server_version >= 14_00_00 else ""
        await wire.script(_SET_UP + newer + (f"; SET ROLE {_quoted(settings.role)}" if settings.role else ""))
    else:
        # A pooler answers with a process number of its own. What is SET on a session of its pool would be found by
        # the application's next transaction there, and a prepared statement not by ours.
        wire.pooled = True
        if isolation != "read committed":
            raise SchemaMismatch(
                f"{settings.where}: behind a pooler the layer needs the isolation level 'read committed', and the "
                f"role's default is {isolation!r}; use a role without that default, or a direct connection"
            )
    if wire.server_version < MINIMUM_SERVER:
        raise SchemaMismatch(f"{settings.where}: the server is too old; channels-trunk needs PostgreSQL 12 or newer")


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _said(error: Exception) -> str:
    # libpq says which host and what the server answered; it never repeats the password.
    return " ".join(str(error).split()) or type(error).__name__


async def find_names(wire: Wire, settings: PostgresSettings) -> Names:
    """Which schema the tables are in: named once, so that a search_path that changes later changes nothing."""
    if settings.schema:
        return Names(settings.schema, settings.table_prefix)
    [(schema,)] = await wire.simple("SELECT current_schema()::text")
    if schema is None:
        raise SchemaMismatch(f"{settings.where}: no schema of the role's search_path exists; give 'schema'")
    check_schema_name(schema, settings)
    return Names(schema, settings.table_prefix)


async def ensure_schema(wire: Wire, names: Names, settings: PostgresSettings) -> None:
    """Make the tables if they are not there, or are older than this; raced by many processes, one makes them."""
    version = await _version(wire, names)
    if version is None:
        await _check_schema(wire, names, settings)
    if (version or 0) < SCHEMA_VERSION and settings.auto_create:
        await wire.script(creation_script(names))
        version = await _version(wire, names)
    if version is None:
        raise SchemaMismatch(
            f"{settings.where}: the layer's tables are missing in schema {names.schema!r}; run the statements that "
            f"`manage.py trunk_schema` prints, or set 'auto_create' to True"
        )
    if version < SCHEMA_VERSION:
        raise SchemaMismatch(
            f"{settings.where}: the layer's tables are of version {version}, and this channels-trunk needs "
            f"{SCHEMA_VERSION}: run the statements that `manage.py trunk_schema` prints, or set 'auto_create' to True"
        )
    if version > SCHEMA_VERSION:
        raise SchemaMismatch(
            f"{settings.where}: the layer's tables are of version {version}, and this channels-trunk knows "
            f"{SCHEMA_VERSION}: upgrade channels-trunk in this process, or give another 'schema' or 'table_prefix'"
        )


async def _check_schema(wire: Wire, names: Names, settings: PostgresSettings) -> None:
    [(exists,)] = await wire.run(Statement("SELECT to_regnamespace($1) IS NOT NULL"), f'"{names.schema}"')
    if not exists:
        raise SchemaMismatch(
            f"{settings.where}: there is no schema {names.schema!r}, as the option 'schema' has it; have its owner run "
            f'CREATE SCHEMA "{names.schema}", or give another'
        )


async def _version(wire: Wire, names: Names) -> int | None:
    there = Statement("SELECT to_regclass($1) IS NOT NULL")
    [(exists,)] = await wire.run(there, names.table("meta"))
    if not exists:
        return None
    rows = await wire.simple(names.fill("SELECT value FROM {p}meta WHERE name = 'schema_version'"))
    return int(rows[0][0]) if rows else None
