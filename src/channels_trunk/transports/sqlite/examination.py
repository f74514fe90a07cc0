"""A look at the file from outside, by a connection of its own: what it holds, and what is wrong with it. Blocks."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from channels_trunk.exceptions import ChannelLayerError, TransportUnavailable
from channels_trunk.findings import Finding, fault
from channels_trunk.stats import Survey
from channels_trunk.transports.base import Busy

from .connection import SQLiteSettings, check_file
from .errors import translated

__all__ = ["examine", "survey", "vacuum"]

_ENOUGH_SPACE = 4 * 1024 * 1024
# No writer of the layer's holds the lock for longer than milliseconds.
_LONGEST_LOCK = 1.0


def survey(settings: SQLiteSettings, prefix: str) -> Survey | None:
    """What the file holds, or None if nothing has been stored yet; raises TransportUnavailable if it cannot be read."""
    if not os.path.exists(settings.path):
        return None
    try:
        # Not immutable and not read-only: reading a WAL needs the right to write its index.
        with closing(sqlite3.connect(settings.path, timeout=settings.timeout, isolation_level=None)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trunk_depth'").fetchone():
                return None
            waiting = connection.execute(
                "SELECT channel, CAST(depth AS INTEGER) FROM trunk_depth WHERE prefix = ? AND depth > 0", (prefix,)
            ).fetchall()
            [log_rows] = connection.execute("SELECT count(*) FROM trunk_log").fetchone()
    except sqlite3.Error as error:
        raise _as_layer_error(error, settings) from None
    return Survey(waiting=dict(waiting), log_rows=log_rows, size_bytes=_size(settings.path))


def vacuum(settings: SQLiteSettings) -> tuple[int, int]:
    """Write the file anew, without what is free in it; return its size before and after."""
    before = _size(settings.path)
    try:
        with closing(sqlite3.connect(settings.path, timeout=settings.timeout, isolation_level=None)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise _as_layer_error(error, settings) from None
    return before, _size(settings.path)


def examine(settings: SQLiteSettings) -> Iterator[Finding]:
    """Say what will keep the layer from working on this file."""
    try:
        check_file(settings.path)
    except ChannelLayerError as error:
        yield fault("file-unusable", str(error), "Mend what the message names, or name another file by 'path'.")
        return
    directory = os.path.dirname(settings.path)
    space = os.statvfs(directory) if hasattr(os, "statvfs") else None
    if space is not None and space.f_bavail * space.f_frsize < _ENOUGH_SPACE:
        yield fault(
            "disk-full",
            f"SQLite file {settings.path}: there is no space left on its disk",
            "Make room on the disk, or put the file on another one.",
        )
        return
    if os.path.exists(settings.path):
        yield from _examine_content(settings)


def _examine_content(settings: SQLiteSettings) -> Iterator[Finding]:
    try:
        with closing(sqlite3.connect(settings.path, timeout=_LONGEST_LOCK, isolation_level=None)) as connection:
            [said] = connection.execute("PRAGMA quick_check(1)").fetchone()
            if said == "ok":
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        yield _told(error, settings)
        return
    if said != "ok":
        yield _damaged(settings.path, said)


def _told(error: sqlite3.Error, settings: SQLiteSettings) -> Finding:
    meaning = translated(error, settings.path, opening=True)
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if isinstance(meaning, Busy):
        return fault(
            "file-locked",
            f"SQLite file {settings.path}: another program holds its lock for longer than {_LONGEST_LOCK:g} s",
            "Find out who writes to the file for so long, and end that; or give the layer a file of its own by 'path'.",
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return _damaged(settings.path, str(error))
    known = {sqlite3.SQLITE_NOTADB: "file-no-database", sqlite3.SQLITE_FULL: "disk-full"}
    return fault(known.get(code, "file-unusable"), str(meaning), "Mend what the message names, or name another file.")


def _damaged(path: str, said: str) -> Finding:
    return fault(
        "file-damaged",
        f"SQLite file {path}: the file is damaged ({said})",
        "Stop every process that uses it, and delete it with its -wal and -shm; it holds nothing that must be kept.",
    )


def _as_layer_error(error: sqlite3.Error, settings: SQLiteSettings) -> ChannelLayerError:
    meaning = translated(error, settings.path)
    if isinstance(meaning, Busy):
        return TransportUnavailable(
            f"SQLite file {settings.path}: it is locked by another program for longer than {settings.timeout:g} s"
        )
    return meaning


def _size(path: str) -> int:
    return sum(os.path.getsize(name) for name in (path, f"{path}-wal") if os.path.exists(name))
