"""The ledger of one run: what was sent, where it may and where it must arrive, and what did arrive."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Ledger"]


@dataclass(kw_only=True)
class _Entry:
    sender: str
    words: str
    to: frozenset[str]
    """The channels that may get it."""
    accepted: bool = True
    """Whether they must: the sender was not told that nobody can know."""
    received: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"{self.words} of the {self.sender}"


class Ledger:
    """Numbers the messages of a run, and collects what is wrong with what arrives: `faults`."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.unsure_total = 0
        self._entries: list[_Entry] = []
        self._latest: defaultdict[tuple[str, str], int] = defaultdict(lambda: -1)  # by sender and channel

    def send(self, sender: str, words: str, to: Iterable[str]) -> dict[str, Any]:
        """Note that `sender` sends, and return the message; `words` are for people."""
        self._entries.append(_Entry(sender=sender, words=f"message {len(self._entries)}, {words}", to=frozenset(to)))
        return {"type": "cuts.message", "number": len(self._entries) - 1}

    def unsure(self, message: Mapping[str, Any]) -> None:
        """The sender was told: nobody can know whether it was taken."""
        self._entries[message["number"]].accepted = False
        self.unsure_total += 1

    def words(self, message: Mapping[str, Any]) -> str:
        """What the message is called."""
        return str(self._entries[message["number"]])

    def forget(self) -> None:
        """What was sent before may arrive no more, and need not."""
        for entry in self._entries:
            entry.to = frozenset()

    def receive(self, channel: str, message: Mapping[str, Any], *, ordered: bool) -> None:
        """A channel got this; in the order of its sender, if that is promised."""
        number = message["number"]
        entry = self._entries[number]
        entry.received[channel] += 1
        if entry.received[channel] > 1:
            self.faults.append(f"twice: {entry}, to {channel}")
        elif channel not in entry.to:
            self.faults.append(f"not meant for it: {entry}, to {channel}")
        latest = self._latest[entry.sender, channel]
        if ordered and number < latest:
            self.faults.append(f"out of order: {entry}, to {channel}, behind message {latest}")
        self._latest[entry.sender, channel] = max(number, latest)

    def has(self, channel: str, message: Mapping[str, Any]) -> bool:
        """Whether the channel has got it."""
        return bool(self._entries[message["number"]].received[channel])

    def missing(self, channel: str) -> list[str]:
        """What the channel must get, and has not got."""
        return [
            str(entry)
            for entry in self._entries
            if entry.accepted and channel in entry.to and not entry.received[channel]
        ]
