"""What follows from a decision of the router: whom to wake, what to tell other nodes."""

from typing import Any

from channels_trunk.envelope import Control

__all__ = ["Effects", "Waiter"]

Waiter = Any
"""Opaque to the router: whatever the hub parked in a mailbox to be woken."""


class Effects:
    """Collected under the hub's lock, carried out after it is released."""

    __slots__ = ("controls", "overflowed", "skipped", "wakes")

    def __init__(self) -> None:
        self.wakes: list[Waiter] = []
        self.controls: list[tuple[str, Control]] = []  # (node, what to tell it)
        self.overflowed: str | None = None  # a channel that dropped a message, for the log
        self.skipped: list[Exception] = []  # what other nodes said and cannot be understood
