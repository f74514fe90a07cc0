"""What the transport is told about its database."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DatabaseSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the tables are, and how often to look at them."""

    alias: str
    database: Mapping[str, Any]
    """The entry of DATABASES, complete, and for the transport's own connection."""
    is_awaited: Callable[[], bool]
    """Whether anybody waits for a message at this node; any thread."""
    auto_trim: bool = True
    polling_interval: float = 0.025
    polling_idle_timeout: float = 1800.0
    is_a_file: bool = False
    """All processes that use it are on one machine."""

    @property
    def where(self) -> str:
        """For messages."""
        return f"the database {self.alias!r}"

    @property
    def locked(self) -> str:
        """For messages: why nothing can be written."""
        if not self.is_a_file:
            return f"{self.where}: it is locked by another process"
        return (
            f"{self.where}: another transaction keeps the file locked; if it is the sender's own, send with "
            f"layer.sync.send_on_commit() or group_send_on_commit()"
        )
