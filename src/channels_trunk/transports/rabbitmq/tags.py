"""Delivery tags: how to acknowledge, or give back, in the fewest words. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Tags", "Word"]


class Word(NamedTuple):
    """What to say to the broker."""

    tag: int
    multiple: bool
    """Whether it is of all unsettled messages up to this one."""


class Tags:
    """Of one AMQP channel, on which the broker numbers what it sends 1, 2, 3, whichever queue it is from."""

    def __init__(self) -> None:
        self._low = 0  # all up to here are settled
        self._above: set[int] = set()  # those that are settled beyond that

    def settle(self, tags: Iterable[int]) -> list[Word]:
        """These are acknowledged, or these are given back: in words that concern no other message."""
        self._above.update(tags)
        while self._low + 1 in self._above:
            self._low += 1
            self._above.remove(self._low)
        together = [tag for tag in tags if tag <= self._low]
        # All below are settled: those of `tags` by this word, the others before it.
        words = [Word(max(together), len(together) > 1)] if together else []
        return words + [Word(tag, multiple=False) for tag in tags if tag > self._low]
