"""Connections to the file: how each is set up, and the creation of the tables."""

import os
import sqlite3
from contextlib import suppress
from importlib import resources
from typing import NamedTuple

from channels_trunk.exceptions import OptionsError, SchemaMismatch, TransportError

from .neighbours import NEW_GENERATION

__all__ = [
    "LONGEST_WAIT",
    "MINIMUM_SQLITE",
    "SCHEMA_VERSION",
    "SQLiteSettings",
    "check_file",
    "complete_numbers",
    "connect",
    "create_schema",
    "has_numbers",
]

# DELETE ... RETURNING and INSERT ... RETURNING; Debian 12, Ubuntu 22.04 and the builds of python.org have it.
MINIMUM_SQLITE = (3, 35, 0)
SCHEMA_VERSION = 1

LONGEST_WAIT = 0.25
"""Seconds to wait for a lock at a stretch, where waiting is allowed at all."""
_WAL_KEPT = 8 * 1024 * 1024


class SQLiteSettings(NamedTuple):
    """What the layer's options and the Django alias say about the file."""

    path: str
    own_file: bool
    """Whether the file is there for the layer alone, so that its page size and vacuum mode are ours to choose."""
    file_mode: int = 0o600
    """The rights of a new file of the layer's own."""
    init_command: str = ""
    timeout: float = 5.0
    """Seconds to wait for a lock where waiting is allowed, which is on the hub's thread."""
    transaction_mode: str = "IMMEDIATE"
    auto_trim: bool = True
    polling_interval: float = 0.1


def check_file(path: str) -> None:
    """Raise the clearest error for a path that cannot work, before SQLite says "unable to open database file"."""
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        needed = ".".join(map(str, MINIMUM_SQLITE))
        raise TransportError(
            f"SQLite {sqlite3.sqlite_version} is too old: channels-trunk needs {needed} or newer; use a newer Python "
            f"build or system library"
        )
    directory = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise OptionsError(f"SQLite file {path}: that is a directory; name a file in it")
    if not os.path.isdir(directory):
        raise OptionsError(f"SQLite file {path}: the directory {directory} does not exist; create it")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise OptionsError(
            f"SQLite file {path}: the directory {directory} cannot be written by this process; SQLite makes files "
            f"beside the database there"
        )
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        raise OptionsError(f"SQLite file {path}: this process may not read and write it")


def connect(settings: SQLiteSettings, *, busy_timeout: float, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection that any thread may use, one at a time; the file is in WAL mode afterwards."""
    if settings.own_file and not os.path.exists(settings.path):
        # Messages are not for everybody who has an account on the machine; SQLite's own default mode is 0644. What it
        # makes beside the file has the file's mode.
        with suppress(OSError):
            _make_file(settings)
    connection = sqlite3.connect(
        settings.path, timeout=_patience(settings), isolation_level=None, check_same_thread=False, cached_statements=64
    )
    # What a stranger wrote into the file must not stop the reading of the rest.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        _set_up(connection, settings)
        # The user's init_command may have set these for the application's connections; ours must not wait in a loop's
        # thread, nor checkpoint (15 to 40 ms of fsync) in the commit of a caller.
        connection.execute(f"PRAGMA busy_timeout={int(busy_timeout * 1000)}")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_KEPT}")
        if read_only:
            connection.execute("PRAGMA query_only=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_file(settings: SQLiteSettings) -> None:
    """Make an empty file. Raises OSError, as where another process has made it."""
    file = os.open(os.path.realpath(settings.path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        if settings.file_mode != 0o600:
            os.chmod(file if os.chmod in os.supports_fd else settings.path, settings.file_mode)  # whatever the umask
    finally:
        os.close(file)


def _set_up(connection: sqlite3.Connection, settings: SQLiteSettings) -> None:
    # First of all: two processes that switch the same new file to WAL at once get "database is locked" at once.
    connection.execute(f"PRAGMA busy_timeout={int(_patience(settings) * 1000)}")
    if settings.own_file and connection.execute("PRAGMA page_count").fetchone()[0] == 0:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    for command in settings.init_command.split(";"):
        if command.strip():
            connection.execute(command)
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode.lower() != "wal":
        raise TransportError(
            f"SQLite file {settings.path}: WAL mode is not to be had (SQLite stays in mode {mode!r}); use a file on a "
            f"local disk"
        )


def _patience(settings: SQLiteSettings) -> float:
    # Short, because it holds the hub's thread, and senders that wait must be told in time; open() tries again.
    return min(settings.timeout, LONGEST_WAIT)


def create_schema(connection: sqlite3.Connection, path: str) -> None:
    """Make what is missing of the tables; raced by many processes, one makes them."""
    version = _schema_version(connection)
    if version is None or not _is_complete(connection):
        script = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in script.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            if not _has_clocks(connection):
                connection.execute("ALTER TABLE trunk_nodes ADD COLUMN clock REAL")
            complete_numbers(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        version = _schema_version(connection)
    if version is not None and version > SCHEMA_VERSION:
        raise SchemaMismatch(
            f"SQLite file {path}: its tables are of version {version}, and this channels-trunk knows {SCHEMA_VERSION}: "
            f"upgrade channels-trunk in this process, or name another file"
        )


def complete_numbers(connection: sqlite3.Connection) -> None:
    """Write the numbers of trunk_meta that are missing; in the caller's transaction."""
    connection.execute(
        "INSERT OR IGNORE INTO trunk_meta (name, value) VALUES ('schema_version', ?), "
        f"('generation', {NEW_GENERATION}), ('file_id', {NEW_GENERATION})",
        (SCHEMA_VERSION,),
    )


def _is_complete(connection: sqlite3.Connection) -> bool:
    names = ("trunk_log", "trunk_queue", "trunk_queue_channel", "trunk_depth", "trunk_members", "trunk_nodes")
    marks = ", ".join("?" * len(names))
    [count] = connection.execute(f"SELECT count(*) FROM sqlite_master WHERE name IN ({marks})", names).fetchone()
    return bool(count == len(names)) and has_numbers(connection) and _has_clocks(connection)


def _has_clocks(connection: sqlite3.Connection) -> bool:
    # The column came after the table: a file that is older has the table without it.
    found = connection.execute("SELECT 1 FROM pragma_table_info('trunk_nodes') WHERE name = 'clock'").fetchone()
    return found is not None


def has_numbers(connection: sqlite3.Connection) -> bool:
    """Whether trunk_meta holds its numbers."""
    names = "('schema_version', 'generation', 'file_id')"
    return bool(connection.execute(f"SELECT count(*) = 3 FROM trunk_meta WHERE name IN {names}").fetchone()[0])


def _schema_version(connection: sqlite3.Connection) -> int | None:
    made = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'trunk_meta'").fetchone()
    if made is None:
        return None
    row = connection.execute("SELECT value FROM trunk_meta WHERE name = 'schema_version'").fetchone()
    return None if row is None else int(row[0])
