"""How a layer is, in a word."""

from enum import StrEnum

import msgspec

__all__ = ["Health", "State"]


class State(StrEnum):
    """The word."""

    CLOSED = "closed"  # not used yet, or closed; the next call opens it
    OPENING = "opening"
    OK = "ok"
    AWAY = "away"  # the engine cannot be reached at the moment; the hub goes on trying
    FAILED = "failed"  # the engine refused for a reason that only a person can mend; the next call tries again


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot: the state, since how many seconds, and what was said last about it (no secrets in it)."""

    state: State
    since_seconds: float
    detail: str = ""
