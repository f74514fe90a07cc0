"""Transactions: Django's own; but on SQLite one that waits for the one write lock, in short steps."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from django.db import Error, transaction

from .errors import Trouble, trouble_of

__all__ = ["SQLITE_PATIENCE", "Beginning"]

SQLITE_PATIENCE = 0.25
"""How long SQLite's lock is waited for, before the layer looks whether there is something else to do. Seconds."""
# How often it is asked for: a process like us holds it for a tenth of a millisecond. Who holds it for longer than some
# milliseconds is of another kind, and there is no use in asking so often. Seconds.
_SOON, _LATER = 0.0001, 0.001
_LONG = 0.005


class Beginning:
    """Of one connection of Django's, once it is connected."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.locks_all = bool(connection.vendor == "sqlite")
        """Whether a transaction keeps all others from writing: on SQLite it takes the one write lock when it begins."""
        self._busy_timeout = 0

    def keep_busy_timeout(self) -> None:
        """On SQLite: whatever else has to wait for others waits as it is set."""
        [self._busy_timeout] = self._connection.connection.execute("PRAGMA busy_timeout").fetchone()

    def transaction(self, *, patience: float, check: Callable[[], None]) -> AbstractContextManager[None]:
        """A transaction; `check` raises if nobody wants it any more.

        Beginning it raises what Django does if SQLite's lock was not to be had within `patience` seconds.
        """
        if self.locks_all:
            return self._writing(patience, check)
        atomic: AbstractContextManager[None] = transaction.atomic(using=self._connection.alias)
        return atomic

    @contextmanager
    def _writing(self, patience: float, check: Callable[[], None]) -> Iterator[None]:
        # What Django's atomic() does around SQLite's BEGIN and COMMIT takes five times as long as these.
        connection = self._connection
        self._take_lock(patience, check)
        connection.in_atomic_block, connection.autocommit = True, False
        try:
            yield
            self._commit()
        except BaseException:
            self._roll_back()
            raise
        finally:
            connection.in_atomic_block, connection.autocommit, connection.needs_rollback = False, True, False

    def _take_lock(self, patience: float, check: Callable[[], None]) -> None:
        connection = self._connection
        began = time.monotonic()
        with self._without_busy_timeout():
            while True:
                try:
                    with connection.wrap_database_errors:
                        connection.connection.execute(f"BEGIN {connection.transaction_mode}")
                        return
                except Error as error:
                    waited = time.monotonic() - began
                    if trouble_of(error) is not Trouble.BUSY or waited > patience:
                        raise
                time.sleep(_SOON if waited < _LONG else _LATER)
                check()

    def _commit(self) -> None:
        with self._connection.wrap_database_errors:
            self._connection.connection.execute("COMMIT")

    def _roll_back(self) -> None:
        raw = self._connection.connection
        if raw is None or not raw.in_transaction:
            return  # SQLite has done so, as it does when the disk is full
        try:
            with self._connection.wrap_database_errors:
                raw.execute("ROLLBACK")
        except Error:
            self._connection.close()

    @contextmanager
    def _without_busy_timeout(self) -> Iterator[None]:
        # SQLite's own waits grow to a tenth of a second, as if locks were held for long: whoever has waited for some
        # transactions of others then sleeps through a hundred.
        connection = self._connection
        if not self._busy_timeout:
            yield
            return
        with connection.wrap_database_errors:
            connection.connection.execute("PRAGMA busy_timeout = 0").fetchone()
        try:
            yield
        finally:
            with suppress(Error), connection.wrap_database_errors:
                connection.connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout}").fetchone()
