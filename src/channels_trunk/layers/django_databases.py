"""What layers ask of Django's DATABASES."""

import os
from typing import Any

from django.db import connections

from channels_trunk.exceptions import OptionsError

__all__ = ["is_memory_name", "require_alias"]


def require_alias(alias: str, where: str) -> None:
    """Raise OptionsError unless DATABASES has this alias; `where` is the path of the option in the settings."""
    known = sorted(connections.settings)
    if alias not in known:
        raise OptionsError(f"{where}: {alias!r} is not in DATABASES; known: {', '.join(known)}")


def is_memory_name(name: Any) -> bool:
    """Whether SQLite keeps a database of this name in memory."""
    return ":memory:" in os.fspath(name) or "mode=memory" in os.fspath(name)
