"""What was sent against what arrived: no figure without its ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Account:
    """The closed ledger of one measurement, all its batches together."""

    sent: int = 0
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    disordered: int = 0

    @property
    def clean(self) -> bool:
        """True if each message arrived once and in its sender's order."""
        return not (self.lost or self.duplicated or self.disordered)

    def describe(self) -> str:
        """The faults in words, or an empty string."""
        faults = (("lost", self.lost), ("twice", self.duplicated), ("out of order", self.disordered))
        return ", ".join(f"{count:,} {word}" for word, count in faults if count)


def add_up(accounts: Iterable[Account]) -> Account:
    """One account for several."""
    several = list(accounts)
    return Account(**{field.name: sum(getattr(one, field.name) for one in several) for field in fields(Account)})


class Ledger:
    """Checks the numbers of each sender as they arrive; cheap while all is well.

    Every sender numbers its messages 0, 1, 2 and so on. `note()` is called once for each message received.
    """

    def __init__(self, *, senders: int) -> None:
        self.received = 0
        self.last_at = 0.0
        self._expected = [0] * senders
        self._missing: list[set[int]] = [set() for _ in range(senders)]
        self._duplicated = 0
        self._disordered = 0

    def note(self, sender: int, number: int) -> None:
        """Enter one received message."""
        self.received += 1
        if number == self._expected[sender]:
            self._expected[sender] = number + 1
        else:
            self._note_fault(sender, number)

    def _note_fault(self, sender: int, number: int) -> None:
        expected, missing = self._expected[sender], self._missing[sender]
        if number > expected:
            missing.update(range(expected, number))
            self._expected[sender] = number + 1
        elif number in missing:
            missing.remove(number)
            self._disordered += 1
        else:
            self._duplicated += 1

    def close(self, sent: Sequence[int]) -> Account:
        """Compare with what each sender says it sent."""
        never_seen = sum(max(0, total - expected) for total, expected in zip(sent, self._expected, strict=True))
        return Account(
            sent=sum(sent),
            received=self.received,
            lost=never_seen + sum(len(missing) for missing in self._missing),
            duplicated=self._duplicated,
            disordered=self._disordered,
        )
