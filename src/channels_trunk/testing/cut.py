"""Where a connection is cut, and how."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

__all__ = ["Cut", "Direction", "Manner", "Moment", "Scope"]


class Direction(StrEnum):
    """Whose packets are counted."""

    TO_SERVER = "to_server"
    TO_CLIENT = "to_client"


class Moment(StrEnum):
    """How much of the packet still passes."""

    BEFORE = "before"  # nothing: a request that never came, or an answer that never came back
    HALFWAY = "halfway"  # the first half of its bytes
    AFTER = "after"  # all of it, and nothing behind it


class Manner(StrEnum):
    """What both ends see."""

    RESET = "reset"  # RST
    END = "end"  # FIN, behind what has passed


class Scope(StrEnum):
    """What is cut."""

    ONE = "one"  # the connection that the packet belongs to
    ALL = "all"  # every connection that stands


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One cut: at packet `number`, from 0, of one direction. str() names it, and parse() reads that."""

    direction: Direction
    number: int
    moment: Moment = Moment.BEFORE
    manner: Manner = Manner.RESET
    scope: Scope = Scope.ONE

    def __str__(self) -> str:
        return f"{self.direction}:{self.number}:{self.moment}:{self.manner}:{self.scope}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cut that str() gave this name; raises ValueError."""
        direction, number, moment, manner, scope = text.split(":")
        return cls(
            direction=Direction(direction),
            number=int(number),
            moment=Moment(moment),
            manner=Manner(manner),
            scope=Scope(scope),
        )

    def passed(self, packet: bytes) -> bytes:
        """What still passes of the packet."""
        lengths = {Moment.BEFORE: 0, Moment.HALFWAY: len(packet) // 2, Moment.AFTER: len(packet)}
        return packet[: lengths[self.moment]]
