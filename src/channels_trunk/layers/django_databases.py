"""What layers ask of Django's DATABASES."""

import os
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from channels_trunk.exceptions import OptionsError

__all__ = ["has_tables", "is_memory_name", "require_alias"]


def require_alias(alias: str, where: str) -> None:
    """Raise OptionsError unless DATABASES has this alias, and Django can load what it needs for it.

    `where` is the path of the option in the settings.
    """
    known = sorted(connections.settings)
    if alias not in known:
        raise OptionsError(f"{where}: {alias!r} is not in DATABASES; known: {', '.join(known)}")
    try:
        connections[alias]
    except (ImproperlyConfigured, ImportError) as error:
        # The driver is not installed, or there is no such engine.
        said = " ".join(str(error).split())
        raise OptionsError(f"{where}: Django cannot use the database {alias!r}: {said}") from error


def has_tables(alias: str) -> bool:
    """Whether Django keeps models in this database: the default one, or whatever DATABASE_ROUTERS send there."""
    return alias == DEFAULT_DB_ALIAS or (bool(settings.DATABASE_ROUTERS) and alias in settings.DATABASES)


def is_memory_name(name: Any) -> bool:
    """Whether SQLite keeps a database of this name in memory."""
    return ":memory:" in os.fspath(name) or "mode=memory" in os.fspath(name)
