"""What the server's refusals mean to the hub."""

from channels_trunk.exceptions import SchemaMismatch, TransportError, TransportUnavailable
from channels_trunk.transports.base import Busy

from .wire import ServerError

__all__ = ["EMPTIED", "STALE", "is_lost", "refusal", "translated"]

# Our own: the tables were emptied, by a crash or an operator; another session appends for this node.
EMPTIED, STALE = "TK001", "TK002"
# Nothing was done, and trying again may help: a deadlock, a lock, a timeout that the role has for its statements.
_BUSY = {"40001", "40P01", "55P03", "57014"}
# By class: connection, resources, the operator intervenes, internal; and a server that only reads, as a standby does.
_AWAY = ("08", "53", "57", "58", "XX")
_READ_ONLY = "25006"


def is_lost(error: ServerError) -> bool:
    """Whether the connection is of no use any more, or what it was opened for is gone: another open() will tell."""
    return error.sqlstate[:2] not in {"22", "23"} and error.sqlstate not in _BUSY


def translated(error: ServerError, where: str) -> Exception:
    """The error that the contract knows."""
    if error.sqlstate in _BUSY:
        return Busy()
    return TransportUnavailable(f"{where}: {error} (SQLSTATE {error.sqlstate})")


def refusal(error: ServerError, where: str) -> Exception:
    """While opening: what only a person can mend is no TransportUnavailable."""
    state = error.sqlstate
    if state in _BUSY:
        return Busy()
    if state[:2] in _AWAY or state == _READ_ONLY:
        return TransportUnavailable(f"{where}: {error} (SQLSTATE {state})")
    if state == "42501":
        return TransportError(
            f"{where}: {error}. The role may not make or use the layer's tables: have their owner run the statements "
            f"that `manage.py trunk_schema` prints, grant the role what it needs, and set 'auto_create' to False"
        )
    if state in {"42P01", "42883", "3F000"}:
        return SchemaMismatch(
            f"{where}: {error}. The layer's tables are missing: run the statements that `manage.py trunk_schema` "
            f"prints, or set 'auto_create' to True; check 'schema' and 'table_prefix'"
        )
    return TransportError(f"{where}: {error} (SQLSTATE {state})")
