"""Checks that ask a database: `manage.py check --database default`, and whatever `migrate` runs."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from .entries import Entry, made

__all__ = ["check_channel_layer_databases", "check_migrations"]

_APP = "channels_trunk"


def check_channel_layer_databases(
    app_configs: object = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check the layers whose database is one of `databases`; and those that name a server themselves."""
    if not databases:
        return []
    return [message for entry, layer in made() for message in _check(entry, layer, databases)]


def check_migrations(alias: str) -> list[CheckMessage]:
    """Check one layer's tables, if they are Django's."""
    return [message for entry, layer in made() if entry.alias == alias for message in _check_migrations(entry, layer)]


def _check(entry: Entry, layer: Any, databases: Sequence[str]) -> Iterator[CheckMessage]:
    names_server = any(name in entry.config for name in ("dsn", "NAME", "OPTIONS"))
    if names_server or _database_of(entry) in databases:
        yield from _check_pooler(entry, layer)
        yield from _check_migrations(entry, layer)


def _database_of(entry: Entry) -> str:
    return str(entry.config.get("database") or DEFAULT_DB_ALIAS)


def _check_pooler(entry: Entry, layer: Any) -> Iterator[CheckMessage]:
    finding = layer.find_pooler() if hasattr(layer, "find_pooler") else None
    if finding is not None:
        yield CheckWarning(f"{entry.where}: {finding.text}.", hint=finding.remedy, id="channels_trunk.W007")


def _check_migrations(entry: Entry, layer: Any) -> Iterator[CheckMessage]:
    if type(layer).__name__ != "DatabaseChannelLayer":
        return
    alias = _database_of(entry)
    try:
        executor = MigrationExecutor(connections[alias])
        wanted = [node for node in executor.loader.graph.leaf_nodes() if node[0] == _APP]
        missing = [migration.name for migration, _ in executor.migration_plan(wanted)]
    except DatabaseError:
        return  # that the database cannot be reached is not this check's to tell
    if missing:
        # No error, which would keep `migrate` itself from running.
        yield CheckWarning(
            f"{entry.where}: the tables of the layer are not up to date in the database {alias!r}; missing: "
            f"{', '.join(missing)}.",
            hint=f"Run `manage.py migrate {_APP} --database {alias}`.",
            id="channels_trunk.W008",
        )
