"""What the errors of a database mean; by the codes of its driver where there are any, never by words."""

from enum import Enum
from typing import Any

from django.db import Error, InterfaceError, InternalError, OperationalError

__all__ = ["Trouble", "is_about_rights", "is_read_only", "result_of", "trouble_of"]


class Trouble(Enum):
    """What is to be done about an error."""

    BUSY = "another transaction is in the way: nothing was done, try again"
    FULL = "there is no room for more"
    AWAY = "the connection is of no use any more"
    SCHEMA = "a table or a column is missing"
    REFUSED = "only a person can mend it"


# By SQLSTATE: serialization failure, deadlock, lock timeout, statement timeout.
_BUSY_STATES = {"40001", "40P01", "55P03", "57014"}
_FULL_STATES = {"53100"}
_SCHEMA_STATES = {"42P01", "42703", "3F000"}
# By class: connection, resources, the operator intervenes, system, internal; and a server that only reads.
_AWAY_CLASSES = {"08", "53", "57", "58", "XX"}
_AWAY_STATES = {"25006", "25P03"}
# By the numbers of MySQL: lock wait timeout, deadlock, NOWAIT, statement timeouts of both of its families, and a row
# that has changed since MariaDB's snapshot.
_BUSY_NUMBERS = {1205, 1213, 3572, 3024, 1969, 1020}
_FULL_NUMBERS = {1021, 1114}
_SCHEMA_NUMBERS = {1054, 1146}
# Access denied (to the server, to the database, to a table, to a column), unknown database, a host that is not allowed.
_REFUSED_NUMBERS = {1044, 1045, 1049, 1130, 1142, 1143, 1698}
# Those of them that are about tables, and a server that only reads.
_RIGHTS_NUMBERS = {1044, 1142, 1143}
_READ_ONLY_NUMBERS = {1290, 1836}
# By the primary result codes of SQLite.
_BUSY_RESULTS = {5, 6}  # BUSY, LOCKED
_FULL_RESULTS = {13}
_AWAY_RESULTS = {10, 14}  # IOERR, CANTOPEN


def trouble_of(error: Error) -> Trouble:
    """What an error of Django's means. An engine without codes that are known here is away when it fails."""
    if (result := result_of(error)) is not None:
        return _of_result(result)
    # Before the states: PyMySQL has both since its version 1.2, and many of MySQL's numbers share the state HY000.
    if (number := _number_of(error)) is not None:
        return _of_number(number, error)
    state = _state_of(error)
    return _of_class(error) if state is None else _of_state(state)


def is_about_rights(error: Error) -> bool:
    """Whether the user may not do this with the tables."""
    return _state_of(error) == "42501" or _number_of(error) in _RIGHTS_NUMBERS


def is_read_only(error: Error) -> bool:
    """Whether nobody may write to this server."""
    return _state_of(error) == "25006" or _number_of(error) in _READ_ONLY_NUMBERS


def result_of(error: Error) -> int | None:
    """SQLite's primary result code, if there is one."""
    result: int | None = getattr(error.__cause__ or error, "sqlite_errorcode", None)
    return None if result is None else result & 0xFF


def _state_of(error: Error) -> str | None:
    cause: Any = error.__cause__ or error
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _number_of(error: Error) -> int | None:
    cause: Any = error.__cause__ or error
    number = cause.args[0] if cause.args else None
    return number if isinstance(number, int) else None


def _of_state(state: str) -> Trouble:
    if state in _BUSY_STATES:
        return Trouble.BUSY
    if state in _FULL_STATES:
        return Trouble.FULL
    if state in _SCHEMA_STATES:
        return Trouble.SCHEMA
    return Trouble.AWAY if state in _AWAY_STATES or state[:2] in _AWAY_CLASSES else Trouble.REFUSED


def _of_result(result: int) -> Trouble:
    if result in _BUSY_RESULTS:
        return Trouble.BUSY
    if result in _FULL_RESULTS:
        return Trouble.FULL
    if result in _AWAY_RESULTS:
        return Trouble.AWAY
    # A missing table is SQLITE_ERROR, as many things are: whoever asks looks whether the tables are there.
    return Trouble.REFUSED


def _of_number(number: int, error: Error) -> Trouble:
    if number in _BUSY_NUMBERS:
        return Trouble.BUSY
    if number in _FULL_NUMBERS:
        return Trouble.FULL
    if number in _SCHEMA_NUMBERS:
        return Trouble.SCHEMA
    if number in _READ_ONLY_NUMBERS:
        return Trouble.AWAY
    return Trouble.REFUSED if number in _REFUSED_NUMBERS else _of_class(error)


def _of_class(error: Error) -> Trouble:
    # DB-API: OperationalError and InterfaceError are about the connection, the others about what was asked.
    return Trouble.AWAY if isinstance(error, (OperationalError, InterfaceError, InternalError)) else Trouble.REFUSED
