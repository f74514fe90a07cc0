"""What the server's refusals mean to the hub."""

from enum import Enum

from channels_trunk.exceptions import SchemaMismatch, TransportError, TransportUnavailable
from channels_trunk.transports.base import Busy

from .wire import ServerError

__all__ = ["EMPTIED", "MEANINGS", "STALE", "Meaning", "is_lost", "meaning_of", "refusal", "translated"]


class Meaning(Enum):
    """What is to be done about a refusal."""

    AGAIN = "again at once"  # nothing was done
    PASSES = "waits"  # the connections are made again, until it is over
    BATCH = "refuses this one"  # and what else is sent goes on
    PERSON = "ends the layer"  # until a person has mended it


# Our own: the tables were emptied, by a crash or an operator; another session appends for this node.
EMPTIED, STALE = "TK001", "TK002"
# By class, the first two characters, or by the whole SQLSTATE, which counts more. All others are for a person to mend.
# docs/explanation/postgres-log.md says the same.
MEANINGS = {
    "08": Meaning.PASSES,  # the connection
    "22": Meaning.BATCH,  # a value
    "23": Meaning.BATCH,  # a constraint
    "25006": Meaning.PASSES,  # a server that only reads, as a standby does
    "25P03": Meaning.PASSES,  # sessions that were idle in a transaction, or too long in one
    "25P04": Meaning.PASSES,
    "40": Meaning.PASSES,  # the transaction was rolled back
    "40001": Meaning.AGAIN,  # others were in the way
    "40P01": Meaning.AGAIN,  # a deadlock
    "53": Meaning.PASSES,  # disk, memory, connections
    "54000": Meaning.PASSES,  # the queue of notifications is full
    "55006": Meaning.PASSES,  # the database is being copied or dropped
    "55P03": Meaning.AGAIN,  # a lock
    "57": Meaning.PASSES,  # an operator
    "57014": Meaning.AGAIN,  # a limit of time for statements, or somebody who cancels one
    "58": Meaning.PASSES,  # the machine under the server
    "72": Meaning.PASSES,  # a snapshot that is too old
    "TK": Meaning.PASSES,
    "XX": Meaning.PASSES,  # the server itself
}


def meaning_of(sqlstate: str) -> Meaning:
    """What is to be done."""
    return MEANINGS.get(sqlstate) or MEANINGS.get(sqlstate[:2]) or Meaning.PERSON


def is_lost(error: ServerError) -> bool:
    """Whether the connection is of no use any more, or what it was opened for is gone: another open() will tell."""
    return meaning_of(error.sqlstate) in {Meaning.PASSES, Meaning.PERSON}


def translated(error: ServerError, where: str) -> Exception:
    """The error that the contract knows."""
    if meaning_of(error.sqlstate) is Meaning.AGAIN:
        return Busy()
    return TransportUnavailable(f"{where}: {error} (SQLSTATE {error.sqlstate})")


def refusal(error: ServerError, where: str) -> Exception:
    """While opening: what only a person can mend is no TransportUnavailable."""
    state, meaning = error.sqlstate, meaning_of(error.sqlstate)
    if meaning is Meaning.AGAIN:
        return Busy()
    if meaning is Meaning.PASSES:
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
