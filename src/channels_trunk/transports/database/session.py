"""The transport's own connection, made by Django's backend of the alias; it lives in the worker's thread.

It is never that of a caller's thread, so nothing here is in a caller's transaction, and no close_old_connections() or
change of settings there reaches it.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from django.apps import apps
from django.db import Error, connections
from django.db.utils import load_backend

from channels_trunk.exceptions import SchemaMismatch, TransportError, TransportUnavailable
from channels_trunk.file_systems import file_identity
from channels_trunk.transports.base import Busy

from .beginning import SQLITE_PATIENCE, Beginning
from .errors import Trouble, trouble_of
from .settings import DatabaseSettings
from .statements import Statements
from .worker import Job

__all__ = ["Session", "Unsure"]

# A transaction that waits for another gives up after this, and is tried again for as long as its sender waits. Seconds.
_LOCK_WAIT = 1
# A process that stands still while it holds the lock of the log keeps everybody from appending; no longer than this.
_STANDSTILL = 10


# Of the time zone of a session, and of what Django makes of that, nothing is in these.
_TIME = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT date_part('epoch', clock_timestamp())",
    "mysql": "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1000000",
}


class Unsure(TransportUnavailable):
    """The connection ended while a transaction was being committed: nobody knows whether it was."""


class Session:
    """Everything but cut() and abandon() is for the worker's thread alone."""

    def __init__(
        self, settings: DatabaseSettings, *, away: Callable[[Exception], None], stalled: Callable[[str], None]
    ):
        self._settings = settings
        self._alias = settings.alias
        self._away = away
        self._stalled = stalled
        self._is_stalled = False
        self._times_locked = 0  # one after the other
        self.failure: TransportUnavailable | None = None
        """Why the connection is of no use any more."""
        self._connection: Any = None  # of Django's; in use by the worker's thread
        self._file: tuple[int, int] | None = None  # which one is open, if it is one
        self.was_there = False
        """Whether this node has taken part before: then it waits for what was there, and is there no more."""
        self.is_replaced = False
        """Whether the file was found to be another one."""
        self.job: Job[Any] | None = None

    @property
    def locked(self) -> str:
        """For messages: why nothing can be written."""
        return self._settings.locked

    @property
    def features(self) -> Any:
        """What the database can do."""
        return self._connection.features

    def time(self) -> float | None:
        """The wall clock of the database, in seconds; None if there is none that all processes see."""
        question = _TIME.get(self._connection.vendor)
        if question is None:
            return None
        with self._connection.cursor() as cursor:
            cursor.execute(question)
            return float(cursor.fetchone()[0])

    @property
    def statements(self) -> Statements:
        """What is asked often."""
        return self._statements

    def has_wal(self) -> bool:
        """Whether SQLite's file is in WAL mode."""
        with self._connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode")
            return bool(cursor.fetchone()[0] == "wal")

    def is_pooled(self) -> bool:
        """Whether PostgreSQL is behind a pooler, which answers with a process number of its own."""
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        raw = self._connection.connection
        return bool(pid != (raw.info.backend_pid if hasattr(raw, "info") else raw.get_backend_pid()))

    @property
    def locks_all(self) -> bool:
        """Whether a transaction keeps all others from writing: on SQLite it takes the one write lock when it begins."""
        return self._beginning.locks_all

    @property
    def locks_rows(self) -> bool:
        """Whether SELECT ... FOR UPDATE is there, as it is needed here."""
        features = self._connection.features
        return bool(features.has_select_for_update and features.supports_select_for_update_with_limit)

    def model(self, name: str) -> Any:
        """The rows of a model in this database."""
        return apps.get_model("channels_trunk", name)._base_manager.using(self._alias)

    def insert(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        """In a transaction: insert rows of a model; each has a value for every field but the primary key, in order."""
        self._statements.insert(apps.get_model("channels_trunk", name), rows)

    # --- connecting

    def ensure(self) -> None:
        """Be connected. Raises Busy once the connection was lost: the next one is another session's."""
        if self.failure is not None:
            raise Busy
        if self._connection is None:
            backend = load_backend(self._settings.database["ENGINE"])
            self._connection = backend.DatabaseWrapper(dict(self._settings.database), self._alias)
            # With DEBUG = True Django would log every statement with its values, which are messages.
            self._connection.make_debug_cursor = self._connection.make_cursor
            connections[self._alias] = self._connection  # in this thread
            self._statements = Statements(self._connection)
            self._beginning = Beginning(self._connection)
        if self._connection.connection is None:
            self._connect()

    def _tune(self) -> None:
        vendor = self._connection.vendor
        with self._connection.cursor() as cursor:
            if vendor == "sqlite":
                if self.has_wal():
                    # Safe in WAL mode, and without an fsync for each commit.
                    cursor.execute("PRAGMA synchronous = NORMAL")
                self._beginning.keep_busy_timeout()
            elif vendor == "postgresql" and not self._settings.database.get("DISABLE_SERVER_SIDE_CURSORS"):
                # Who has disabled those has a pooler, which would hand these settings on to others.
                cursor.execute(f"SET lock_timeout = '{_LOCK_WAIT}s'")
                cursor.execute(f"SET idle_in_transaction_session_timeout = '{_STANDSTILL}s'")
            elif vendor == "mysql":
                cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_WAIT}")
                # Of tables, by a backup or a migration: it is a day by itself.
                cursor.execute(f"SET SESSION lock_wait_timeout = {_LOCK_WAIT}")
                if self._connection.mysql_is_mariadb:
                    cursor.execute(f"SET SESSION idle_transaction_timeout = {_STANDSTILL}")

    def _connect(self) -> None:
        self.check_file()
        if self.was_there and self._has_path and self._file_now() is None:
            # SQLite would make a new file, which is for a person to do.
            raise TransportUnavailable(f"{self._settings.where}: its file is not there any more")
        self._connection.ensure_connection()
        self._file = self._file_now() if self._has_path else None
        self._tune()
        self._statements.connected()

    @property
    def _has_path(self) -> bool:
        """Whether the database is a file that is named by its path; SQLite takes a URI as well."""
        return self._settings.is_a_file and not os.fspath(self._settings.database["NAME"]).startswith("file:")

    def _file_now(self) -> tuple[int, int] | None:
        return file_identity(os.fspath(self._settings.database["NAME"]))

    def check_file(self) -> None:
        """Raise TransportUnavailable if the path names another file than the one that is open, or none.

        SQLite would go on with the file that is gone, and hear nobody who has opened the other one.
        """
        if self._file is not None and self._file_now() != self._file:
            self.is_replaced = True
            self.failure = TransportUnavailable(
                f"{self._settings.where}: its file was removed or replaced while in use"
            )
            self._away(self.failure)
            raise self.failure

    def renew(self) -> None:
        """Close the connection if it is too old or has failed, as Django does between two requests."""
        if self._connection is not None:
            self._connection.close_if_unusable_or_obsolete()

    def end(self) -> None:
        """Close the connection for good."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Error):
                connection.close()
            del connections[self._alias]

    # --- work

    @contextmanager
    def transaction(self, *, patience: float = SQLITE_PATIENCE) -> Iterator[None]:
        """All or nothing. Raises Unsure if nobody can know which; Busy where it is nothing, and may be tried again.

        `patience` is how long SQLite's write lock is waited for, in seconds.
        """
        job, committing = self.job, False
        try:
            with self.translated(), self._beginning.transaction(patience=patience, check=self._check):
                yield
                if job is not None:
                    job.commit_begins()
                committing = True
        except TransportUnavailable as error:
            if committing:
                raise Unsure(str(error)) from error
            # It certainly was not done; whoever tries again does so over the next connection.
            raise Busy from error
        except Busy:
            if committing and job is not None:
                job.commit_failed()
            if self.locks_all and patience >= SQLITE_PATIENCE:
                self._was_locked()
            raise
        self.goes_on()

    def _check(self) -> None:
        if self.job is not None:
            self.job.check()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of Django's into those of the contract."""
        try:
            yield
        except Error as error:
            raise self._translated(error) from error

    def _translated(self, error: Error) -> Exception:
        trouble = trouble_of(error)
        text = f"{self._settings.where}: {_one_line(error)}"
        if trouble is Trouble.BUSY:
            if not self._settings.is_a_file:
                self._was_locked()
            return Busy()
        if trouble is Trouble.FULL:
            self._stall(text)
            return Busy()
        if trouble is Trouble.SCHEMA or (trouble is not Trouble.AWAY and self._lacks_schema()):
            text = self._how_to_migrate(error)
            if not self.was_there:
                return SchemaMismatch(text)
        elif trouble is Trouble.REFUSED:
            return TransportError(text)
        away = TransportUnavailable(text)
        self.failure = away
        self._away(away)
        return away

    def _was_locked(self) -> None:
        self._times_locked += 1
        # Once may be chance, where many processes write.
        if self._times_locked > 1 and not self._is_stalled:
            self._stall(self._settings.locked)

    def _stall(self, text: str) -> None:
        self._is_stalled = True
        self._stalled(text)

    def goes_on(self) -> None:
        """Something was written."""
        self._times_locked = 0
        if self._is_stalled:
            self._is_stalled = False
            self._stalled("")

    def _lacks_schema(self) -> bool:
        with suppress(Error):
            connection = self._connection
            # After an error, a server answers nothing more in the same transaction.
            if connection is not None and (connection.vendor == "sqlite" or not connection.in_atomic_block):
                there = connection.introspection.table_names()
                models = list(apps.get_app_config("channels_trunk").get_models())
                return not {model._meta.db_table for model in models} <= {str(name) for name in there} or any(
                    self._lacks_columns(model) for model in models
                )
        return False

    def _lacks_columns(self, model: Any) -> bool:
        """To SQLite a column that is not there is an error like any other."""
        with self._connection.cursor() as cursor:
            there = self._connection.introspection.get_table_description(cursor, model._meta.db_table)
        return not {field.column for field in model._meta.concrete_fields} <= {str(column.name) for column in there}

    def _how_to_migrate(self, error: Error) -> str:
        option = "" if self._alias == "default" else f" --database {self._alias}"
        return (
            f"{self._settings.where}: {_one_line(error)}. The tables of channels_trunk are missing or old: run "
            f"`manage.py migrate channels_trunk{option}`"
        )

    # --- from other threads

    def cut(self) -> None:
        """End what the worker's thread waits for; any thread."""
        descriptor = self._descriptor()
        if descriptor is not None:
            with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
                line.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """In the child of a fork: close the descriptor without a word to the server, which is the parent's."""
        connection = self._connection
        if connection is None or connection.connection is None:
            return
        if connection.vendor == "sqlite":
            # SQLite keeps book of the locks that the process holds: connections that are inherited would have the
            # child believe that it holds the parent's.
            with suppress(Exception):
                connection.connection.close()
        elif (descriptor := self._descriptor()) is not None:
            # A copy of the descriptor would keep the server from noticing that the parent has died. The number stays
            # taken, as the client library may close it one day.
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, descriptor)
            os.close(nothing)

    def _descriptor(self) -> int | None:
        """Of the connection's socket; None where there is none, or the driver hides it."""
        raw = getattr(self._connection, "connection", None)
        holder = raw if hasattr(raw, "fileno") else getattr(raw, "_sock", None)  # psycopg, mysqlclient; PyMySQL
        try:
            return None if holder is None else int(holder.fileno())
        except Exception:  # noqa: BLE001 - a connection that is closed; each driver has an error of its own
            return None


def _one_line(error: Error) -> str:
    # libpq's have several; none of them has a password.
    return " ".join(str(error).split())
