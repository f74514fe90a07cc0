"""Which cuts are made."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from channels_trunk.testing.cut import Cut, Direction, Manner, Moment, Scope

__all__ = ["ALL", "Choice"]

ALL = "all"
_KINDS = [
    *((moment, manner, Scope.ONE) for moment in Moment for manner in Manner),
    (Moment.BEFORE, Manner.RESET, Scope.ALL),
]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`text` is "all", or how many cuts are chosen by `seed`, or the name of one cut."""

    text: str
    seed: str

    def cuts(self, packets: Mapping[Direction, int]) -> Iterator[Cut]:
        """Return the cuts for a scenario of so many packets; raises ValueError."""
        if ":" in self.text:
            return iter([Cut.parse(self.text)])
        possible = list(_all(packets))
        if self.text == ALL:
            return iter(possible)
        return iter(random.Random(self.seed).sample(possible, min(int(self.text), len(possible))))


def _all(packets: Mapping[Direction, int]) -> Iterator[Cut]:
    for direction in Direction:
        for number in range(packets[direction]):
            for moment, manner, scope in _KINDS:
                yield Cut(direction=direction, number=number, moment=moment, manner=manner, scope=scope)
