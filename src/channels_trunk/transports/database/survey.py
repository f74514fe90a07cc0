"""What the tables hold, and how to make their file smaller; in the caller's own thread. Blocks."""

import os
import sqlite3
from contextlib import closing

from django.apps import apps
from django.db import DatabaseError
from django.db.models import Count

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.stats import Survey

from .names import plain_name, stored_name

__all__ = ["survey", "vacuum"]

# Others commit in a few milliseconds; a migration or a backup may take some seconds.
_PATIENCE = 5.0


def survey(alias: str, prefix: str) -> Survey:
    """What the tables hold; raises TransportUnavailable. How large they are, each engine would say in its own way."""
    queue, log = (apps.get_model("channels_trunk", name) for name in ("QueuedMessage", "LogRow"))
    try:
        queued = queue.objects.using(alias).filter(prefix=stored_name(prefix)).order_by()
        rows = list(queued.values_list("channel").annotate(Count("id")))
        log_rows = log.objects.using(alias).count()
    except DatabaseError as error:
        raise TransportUnavailable(f"the database {alias!r}: {' '.join(str(error).split())}") from None
    return Survey(waiting={plain_name(channel): count for channel, count in rows}, log_rows=log_rows, size_bytes=None)


def vacuum(path: str) -> tuple[int, int]:
    """Have SQLite write a file anew, without what is free in it; return its size before and after."""
    before = _size(path)
    try:
        # Not over Django's connection, which may be in a transaction.
        with closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise TransportUnavailable(f"SQLite file {path}: {error}") from None
    return before, _size(path)


def _size(path: str) -> int:
    return sum(os.path.getsize(name) for name in (path, f"{path}-wal") if os.path.exists(name))
