"""A look at the database from outside, by a connection of its own: what it holds, and what is wrong. Blocks."""

import os
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.findings import Finding, Level, fault, find_server
from channels_trunk.stats import Survey

from .connecting import MINIMUM_SERVER
from .names import SCHEMA_VERSION, Names, is_odd_schema
from .notify_queue import REMEDY, USAGE, fullness
from .settings import PostgresSettings

__all__ = ["examine", "find_pooler", "survey"]

_TABLES = ("meta", "state", "log_0", "log_1", "queue", "members", "nodes")
_RIGHTS = {"meta": "SELECT"}
_ALL_RIGHTS = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE"


def survey(settings: PostgresSettings, prefix: str) -> Survey | None:
    """What the tables hold, or None if they are not there yet; raises TransportUnavailable."""
    try:
        with _connected(settings) as connection:
            names = _names(connection, settings)
            if names is None or not _is_there(connection, names, "queue"):
                return None
            waiting = _ask(
                connection, names.fill("SELECT channel, count(*) FROM {p}queue WHERE prefix = %s GROUP BY 1"), prefix
            )
            logs = names.fill("SELECT (SELECT count(*) FROM {p}log_0) + (SELECT count(*) FROM {p}log_1)")
            [(log_rows,)] = _ask(connection, logs)
            tables = [names.table(name) for name in _TABLES]
            [(size,)] = _ask(
                connection, "SELECT sum(pg_total_relation_size(t::regclass)) FROM unnest(%s::text[]) t", tables
            )
    except psycopg.Error as error:
        raise TransportUnavailable(f"{settings.where}: {_said(error)}") from None
    return Survey(waiting=dict(waiting), log_rows=log_rows, size_bytes=int(size))


def examine(settings: PostgresSettings) -> Iterator[Finding]:
    """Say what will keep the layer from working in this database, and what will make it slow."""
    try:
        is_there = _look_for_server(settings)
    except _Missing as missing:
        yield missing.finding
        return
    try:
        with _connected(settings) as connection:
            yield from _examine_server(connection, settings)
    except psycopg.OperationalError as error:
        yield _not_connected(settings, error, is_there=is_there)
    except psycopg.Error as error:
        yield fault("server-failed", f"{settings.where}: {_said(error)}", "See what the server's log says of it.")


def find_pooler(settings: PostgresSettings) -> Finding | None:
    """Say that there is a pooler in front of the server and no other way to listen; None also if nobody answers."""
    if settings.listen_dsn:
        return None
    try:
        with _connected(settings) as connection:
            return _pooler(connection, settings)
    except psycopg.Error:
        return None


class _Missing(Exception):
    """There is no server."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


def _not_connected(settings: PostgresSettings, error: psycopg.OperationalError, *, is_there: bool) -> Finding:
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return fault(
            "server-silent",
            f"{settings.where}: the server takes connections and does not answer: {_said(error)}",
            "See that it is PostgreSQL that listens there, and that the server does not stand still.",
        )
    if not is_there:
        return fault(
            "not-connected",
            f"{settings.where}: {_said(error)}",
            "See that the server runs and listens there; and that user, password and database are right.",
        )
    return fault(
        "login-refused",
        f"{settings.where}: the server is there, and refuses this connection: {_said(error)}",
        "Correct the user, the password, the name of the database or the TLS settings; the server's pg_hba.conf says "
        "who may connect from where, and max_connections how many.",
    )


def _look_for_server(settings: PostgresSettings) -> bool:
    """Whether something listens at one of the hosts; False if libpq alone knows where they are. Raises _Missing."""
    parts = conninfo_to_dict(settings.dsn)
    if parts.get("service") or os.environ.get("PGSERVICE"):
        return False
    defaults = {entry.keyword.decode(): (entry.val or b"").decode() for entry in pq.Conninfo.get_defaults()}
    hosts = str(parts.get("hostaddr") or parts.get("host") or defaults["hostaddr"] or defaults["host"]).split(",")
    ports = str(parts.get("port") or defaults["port"] or 5432).split(",")
    missing: Finding | None = None
    for number, host in enumerate(hosts):
        if not host or host.startswith("@"):
            return False  # a socket whose place is built into libpq
        port = int(ports[number if len(ports) > 1 else 0] or 5432)
        place = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else host
        found = find_server(place, port, settings.where)
        if found is None:
            return True
        missing = missing or found
    assert missing is not None, "there is a host at least, if only an empty one"
    raise _Missing(missing)


def _examine_server(connection: psycopg.Connection[Any], settings: PostgresSettings) -> Iterator[Finding]:
    if connection.info.server_version < MINIMUM_SERVER:
        yield fault(
            "server-too-old", f"{settings.where}: the server is too old", "Use PostgreSQL 12 or newer for the layer."
        )
        return
    [(reads_only,)] = _ask(connection, "SELECT pg_is_in_recovery()")
    if reads_only:
        yield fault(
            "server-read-only",
            f"{settings.where}: the server is a standby, which only reads",
            "Name the primary; with several hosts add target_session_attrs=read-write to 'OPTIONS' or 'dsn'.",
        )
        return
    names = _names(connection, settings)
    if names is None:
        yield fault(
            "schema-missing",
            f"{settings.where}: no schema of the role's search_path exists, or the one in 'schema' does not",
            "Create the schema, or give another one by 'schema'.",
        )
        return
    if is_odd_schema(names.schema):
        text = f"{settings.where}: the name of the schema {names.schema!r} has quotes, braces, '%' or '$'"
        yield fault("schema-missing", text, "Give another one by 'schema'.")
        return
    yield from _examine_tables(connection, names, settings)
    if not settings.listen_dsn and (pooler := _pooler(connection, settings)):
        yield pooler
    [(usage,)] = _ask(connection, USAGE)
    if text := fullness(usage):
        yield Finding(level=Level.WARNING, code="notify-queue", text=f"{settings.where}: {text}", remedy=f"{REMEDY}.")


def _examine_tables(connection: psycopg.Connection[Any], names: Names, settings: PostgresSettings) -> Iterator[Finding]:
    """The tables' version, and the role's rights."""
    [(may_enter, may_create)] = _ask(
        connection,
        "SELECT has_schema_privilege(s, 'USAGE'), has_schema_privilege(s, 'CREATE') FROM (SELECT %s::text) t (s)",
        names.schema,
    )
    if not may_enter:
        yield _no_rights(settings, f"may not use the schema {names.schema!r}")
        return
    if not _is_there(connection, names, "meta"):
        if not settings.auto_create:
            yield fault(
                "tables-missing",
                f"{settings.where}: the layer's tables are missing in schema {names.schema!r}",
                "Run the statements that `manage.py trunk_schema` prints, or set 'auto_create' to True.",
            )
        elif not may_create:
            yield _no_rights(settings, f"may not make tables in schema {names.schema!r}")
        return
    lacking = []
    for table in _TABLES:
        rights = _RIGHTS.get(table, _ALL_RIGHTS).split(", ")
        if not _is_there(connection, names, table):
            lacking.append(f"{names.table(table)} is missing")
        elif not all(_has_right(connection, names.table(table), right) for right in rights):
            lacking.append(f"may not use {names.table(table)}")
    if lacking:
        yield _no_rights(settings, ", ".join(lacking))
        return
    yield from _examine_version(connection, names, settings)


def _examine_version(
    connection: psycopg.Connection[Any], names: Names, settings: PostgresSettings
) -> Iterator[Finding]:
    found = _ask(connection, names.fill("SELECT value FROM {p}meta WHERE name = 'schema_version'"))
    version = int(found[0][0]) if found else SCHEMA_VERSION
    if version > SCHEMA_VERSION:
        yield fault(
            "tables-too-new",
            f"{settings.where}: the tables are of version {version}, and this channels-trunk knows {SCHEMA_VERSION}",
            "Upgrade channels-trunk here, or give another 'schema' or 'table_prefix'.",
        )
    elif version < SCHEMA_VERSION and not settings.auto_create:
        yield fault(
            "tables-too-old",
            f"{settings.where}: the tables are of version {version}, and this channels-trunk needs {SCHEMA_VERSION}",
            "Have the owner run the statements that `manage.py trunk_schema` prints, or set 'auto_create' to True.",
        )


def _pooler(connection: psycopg.Connection[Any], settings: PostgresSettings) -> Finding | None:
    """As the transport finds out: a pooler answers with a process number of its own."""
    [(pid,)] = _ask(connection, "SELECT pg_backend_pid()")
    if pid == connection.info.backend_pid:
        return None
    return Finding(
        level=Level.WARNING,
        code="pooler",
        text=f"{settings.where}: there is a pooler in front of the server, and LISTEN does not hold there; the layer "
        f"asks for messages every {settings.polling_interval:g} s instead",
        remedy="Give the server's own address by 'listen_dsn'; all else goes on through the pooler.",
    )


def _connected(settings: PostgresSettings) -> psycopg.Connection[Any]:
    connection = psycopg.connect(
        settings.conninfo(listening=False, application_name="channels-trunk examination"),
        autocommit=True,
        prepare_threshold=None,  # as a pooler may stand between
    )
    if settings.role:
        try:
            connection.execute(psycopg.sql.SQL("SET ROLE {}").format(psycopg.sql.Identifier(settings.role)))
        except BaseException:
            connection.close()
            raise
    return connection


def _ask(connection: psycopg.Connection[Any], statement: str, *values: Any) -> list[Any]:
    # The names in it were checked when the options were.
    return connection.execute(statement, values or None).fetchall()


def _names(connection: psycopg.Connection[Any], settings: PostgresSettings) -> Names | None:
    if settings.schema:
        found = _ask(connection, "SELECT nspname::text FROM pg_namespace WHERE nspname = %s", settings.schema)
    else:
        found = _ask(connection, "SELECT current_schema()::text")
    schema = found[0][0] if found else None
    return None if schema is None else Names(schema, settings.table_prefix)


def _is_there(connection: psycopg.Connection[Any], names: Names, table: str) -> bool:
    [(there,)] = _ask(
        connection,
        "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s)",
        names.schema,
        f"{names.table_prefix.lower()}{table}",
    )
    return bool(there)


def _has_right(connection: psycopg.Connection[Any], table: str, right: str) -> bool:
    [(has,)] = _ask(connection, "SELECT has_table_privilege(%s, %s)", table, right)
    return bool(has)


def _no_rights(settings: PostgresSettings, what: str) -> Finding:
    return fault(
        "no-rights",
        f"{settings.where}: the role {what}",
        "Have the owner run the statements that `manage.py trunk_schema` prints, with the grants at their end, and set "
        "'auto_create' to False.",
    )


def _said(error: Exception) -> str:
    # libpq says which host and what the server answered; it never repeats the password.
    return " ".join(str(error).split()) or type(error).__name__
