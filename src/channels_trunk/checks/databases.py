"""Checks that ask a database: `manage.py check --database default`, and whatever `migrate` runs."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from channels_trunk.layers.base import TrunkChannelLayer

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


def _check(entry: Entry, layer: TrunkChannelLayer, databases: Sequence[str]) -> Iterator[CheckMessage]:
    if layer.database_alias() in (None, *databases):
        yield from _check_pooler(entry, layer)
        yield from _check_migrations(entry, layer)


def _check_pooler(entry: Entry, layer: TrunkChannelLayer) -> Iterator[CheckMessage]:
    finding = layer.find_pooler()
    if finding is not None:
        yield CheckWarning(f"{entry.where}: {finding.text}.", hint=finding.remedy, id="channels_trunk.W007")


def _check_migrations(entry: Entry, layer: TrunkChannelLayer) -> Iterator[CheckMessage]:
    alias = layer.database_alias()
    if alias is None or not layer.needs_migrations():
        return
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
