"""SQLite's errors in this package's words, by result code and never by text."""

import sqlite3

from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.transports.base import Busy, TooLarge

__all__ = ["too_large", "translated"]

_WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file, or its directory, is read-only for this process",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened or created",
    sqlite3.SQLITE_PERM: "access is not permitted",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; stop every process that uses it and delete it",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database (or is encrypted); name another file",
    sqlite3.SQLITE_IOERR: "the file system failed",
    sqlite3.SQLITE_TOOBIG: "a row is larger than this SQLite takes",
}
_FATAL_AT_OPEN = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}


def _code(error: sqlite3.Error) -> int:
    # Extended codes hold the primary one in their low byte; errors of the module itself have none.
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def translated(error: sqlite3.Error, path: str, *, opening: bool = False) -> Busy | TransportError:
    """What `error` means: Busy, TransportUnavailable, or (at open alone) TransportError for what a person must mend."""
    code = _code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(path)
    kind = TransportError if opening and code in _FATAL_AT_OPEN else TransportUnavailable
    return kind(f"SQLite file {path}: {_WORDS.get(code, 'SQLite failed')} ({error})")


def too_large(error: Exception) -> TooLarge:
    """What to raise for a row that is larger than SQLite, or its module, takes."""
    return TooLarge(f"SQLite takes no row so large ({error}): send less")
