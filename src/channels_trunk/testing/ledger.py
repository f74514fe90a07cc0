"""The ledger: what was sent against what was received."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Audit", "audit", "numbered"]

Entry = tuple[str, int]
_SHOWN = 5


def numbered(sender: str, number: int, **more: Any) -> dict[str, Any]:
    """Return the message number `number` of `sender`; audit() knows it again."""
    return {"type": "numbered", "sender": sender, "number": number, **more}


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What the ledger says; str() is fit for the message of an assertion."""

    lost: tuple[Entry, ...]
    repeated: tuple[Entry, ...]
    unexpected: tuple[Entry, ...]
    disordered: tuple[tuple[Entry, Entry], ...]
    """Pairs of neighbours of one sender of which the later number came first."""

    @property
    def complete(self) -> bool:
        """True if each message came exactly once, in whatever order."""
        return not (self.lost or self.repeated or self.unexpected)

    @property
    def clean(self) -> bool:
        """True if each message came exactly once, and those of each sender in order."""
        return self.complete and not self.disordered

    def __str__(self) -> str:
        parts = [
            f"{len(found)} {word}: {', '.join(map(str, found[:_SHOWN]))}{', ...' if len(found) > _SHOWN else ''}"
            for word in ("lost", "repeated", "unexpected", "disordered")
            if (found := getattr(self, word))
        ]
        return "; ".join(parts) or "each message once and in order"


def audit(received: Iterable[Mapping[str, Any]], *, sent: Mapping[str, int]) -> Audit:
    """Compare the numbered messages of one reader with what each sender sent: its numbers 0 to `sent[sender] - 1`."""
    entries = [(message["sender"], message["number"]) for message in received]
    expected = {(sender, number) for sender, count in sent.items() for number in range(count)}
    counts = Counter(entries)
    latest: dict[str, Entry] = {}
    disordered = []
    for entry in entries:
        before = latest.get(entry[0])
        if before is not None and before[1] > entry[1]:
            disordered.append((before, entry))
        latest[entry[0]] = entry
    return Audit(
        lost=tuple(sorted(expected - counts.keys())),
        repeated=tuple(sorted(entry for entry, count in counts.items() if count > 1)),
        unexpected=tuple(sorted(counts.keys() - expected)),
        disordered=tuple(disordered),
    )
