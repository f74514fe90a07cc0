"""Keeps the tables of DatabaseChannelLayer in the database that the layer names."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string

__all__ = ["TrunkRouter"]

_APP = "channels_trunk"


class TrunkRouter:
    """For DATABASE_ROUTERS: `migrate` makes the tables where a layer of CHANNEL_LAYERS wants them, and nowhere else.

    The layer itself needs no router; it goes to its alias in any case.
    """

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """The layer's alias, for its models; no opinion of others."""
        return self._home() if model._meta.app_label == _APP else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """As db_for_read()."""
        return self.db_for_read(model, **hints)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Whether the tables belong into this database; no opinion of others' tables."""
        return db in layer_databases() if app_label == _APP else None

    def _home(self) -> str | None:
        return next(iter(layer_databases()), None)


def layer_databases() -> list[str]:
    """The aliases that the layers in CHANNEL_LAYERS name, in their order."""
    found: dict[str, None] = {}
    layers = getattr(settings, "CHANNEL_LAYERS", None) or {}
    for entry in layers.values():
        if isinstance(entry, Mapping) and _is_by_the_orm(entry.get("BACKEND", "")):
            found[(entry.get("CONFIG") or {}).get("database", DEFAULT_DB_ALIAS)] = None
    return list(found)


def _is_by_the_orm(backend: str) -> bool:
    from channels_trunk.layers import DatabaseChannelLayer

    try:
        layer = import_string(backend)
    except ImportError:
        return False
    return isinstance(layer, type) and issubclass(layer, DatabaseChannelLayer)
