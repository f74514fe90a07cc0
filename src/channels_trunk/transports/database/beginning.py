"""How a transaction begins: on SQLite it waits for the one write lock, in short steps."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from django.db import Error, transaction

from .errors import Trouble, trouble_of

__all__ = ["SQLITE_PATIENCE", "begin", "locks_all"]

SQLITE_PATIENCE = 0.25
"""How long SQLite's lock is waited for, before the layer looks whether there is something else to do. Seconds."""
# And how often it is asked for meanwhile: others hold it for as long as a transaction takes. Seconds.
_ASK_AGAIN = 0.0005


def locks_all(connection: Any) -> bool:
    """Whether a transaction keeps all others from writing: on SQLite it takes the one write lock when it begins."""
    return bool(connection.vendor == "sqlite")


def begin(stack: ExitStack, connection: Any, *, patience: float, check: Callable[[], None]) -> None:
    """Begin a transaction that ends with the stack; `check` raises if nobody wants it any more.

    Raises what Django does if SQLite's lock was not to be had within `patience` seconds.
    """
    if not locks_all(connection):
        stack.enter_context(transaction.atomic(using=connection.alias))
        return
    give_up_at = time.monotonic() + patience
    with _without_busy_timeout(connection):
        while True:
            try:
                stack.enter_context(transaction.atomic(using=connection.alias))
            except Error as error:
                if trouble_of(error) is not Trouble.BUSY or time.monotonic() > give_up_at:
                    raise
            else:
                return
            time.sleep(_ASK_AGAIN)
            check()


@contextmanager
def _without_busy_timeout(connection: Any) -> Iterator[None]:
    # SQLite's own waits grow to a tenth of a second, as if locks were held for long: whoever has waited for some
    # transactions of others then sleeps through a hundred.
    raw = connection.connection
    with connection.wrap_database_errors:
        [before] = raw.execute("PRAGMA busy_timeout").fetchone()
        raw.execute("PRAGMA busy_timeout = 0").fetchone()
    try:
        yield
    finally:
        with suppress(Error), connection.wrap_database_errors:
            raw.execute(f"PRAGMA busy_timeout = {before}").fetchone()
