"""The statements that make and remove the tables, for the layer itself and for people; and what a role needs."""

import psycopg

from channels_trunk.exceptions import SchemaMismatch, TransportUnavailable

from .names import SCHEMA_VERSION, Names, is_odd_schema, schema_script
from .settings import PostgresSettings

__all__ = ["check_schema_name", "creation_script", "find_names_now", "owner_script", "removal_script"]

# Written to by whoever sends and receives. `meta` is only read.
_WORKING_TABLES = ("state", "log_0", "log_1", "queue", "members", "nodes")


def creation_script(names: Names) -> str:
    """What makes everything that is missing, to be run as one transaction.

    It waits for others that do the same: CREATE ... IF NOT EXISTS by itself fails when it is raced.
    """
    return names.fill(
        "SELECT pg_advisory_xact_lock({lock_class}, {lock_key});\n\n"
        + schema_script(names)
        + f"\nINSERT INTO {{p}}meta (name, value) VALUES ('schema_version', {SCHEMA_VERSION}) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value;\n"
    )


def owner_script(names: Names) -> str:
    """What the owner of the tables runs, with the grants for another role in comments."""
    tables = ", ".join(map(names.table, _WORKING_TABLES))
    return (
        "-- To be run by the role that is to own the tables. If the schema is not there yet:\n"
        f'-- CREATE SCHEMA "{names.schema}";\n\n'
        f"BEGIN;\n\n{creation_script(names)}\nCOMMIT;\n\n"
        "-- If the processes use another role than the owner, name it in place of application:\n"
        f'-- GRANT USAGE ON SCHEMA "{names.schema}" TO application;\n'
        f"-- GRANT SELECT ON {names.table('meta')} TO application;\n"
        f"-- GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON {tables} TO application;\n"
        f"-- GRANT USAGE ON SEQUENCE {names.table('queue_ids')} TO application;\n"
        f"-- GRANT EXECUTE ON FUNCTION {names.table('publish')}, {names.table('rotate')} TO application;\n"
        "-- Only the owner may VACUUM, before PostgreSQL 17; from there on:\n"
        f"-- GRANT MAINTAIN ON {tables} TO application;\n"
    )


def removal_script(names: Names) -> str:
    """What removes everything."""
    tables = ", ".join(map(names.table, (*_WORKING_TABLES, "meta")))
    return (
        "-- Stop every process that uses the layer first: they would make the tables again.\n"
        "BEGIN;\n"
        f"DROP FUNCTION IF EXISTS {names.table('publish')}, {names.table('rotate')};\n"
        f"DROP TABLE IF EXISTS {tables};\n"
        f"DROP SEQUENCE IF EXISTS {names.table('queue_ids')};\n"
        "COMMIT;\n"
    )


def check_schema_name(schema: str, settings: PostgresSettings) -> None:
    """Raise SchemaMismatch for a schema that the role's search_path names, and the layer's statements cannot."""
    if is_odd_schema(schema):
        raise SchemaMismatch(
            f"{settings.where}: the name of the schema {schema!r}, the first of the role's search_path, has quotes, "
            f"braces, '%' or '$'; give another by 'schema'"
        )


def find_names_now(settings: PostgresSettings) -> Names:
    """Where the tables are; the server is asked, by a connection of its own, where the settings leave it to the role.

    Blocks. Raises TransportUnavailable, whose text names no password, or SchemaMismatch.
    """
    if settings.schema:
        return Names(settings.schema, settings.table_prefix)
    try:
        with psycopg.connect(
            settings.conninfo(listening=False, application_name="channels-trunk schema"), autocommit=True
        ) as connection:
            if settings.role:
                connection.execute(psycopg.sql.SQL("SET ROLE {}").format(psycopg.sql.Identifier(settings.role)))
            row = connection.execute("SELECT current_schema()::text").fetchone()
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise TransportUnavailable(f"{settings.where}: {said}; give 'schema', and the server is not asked") from None
    if row is None or row[0] is None:
        raise SchemaMismatch(f"{settings.where}: no schema of the role's search_path exists; give 'schema'")
    check_schema_name(row[0], settings)
    return Names(row[0], settings.table_prefix)
