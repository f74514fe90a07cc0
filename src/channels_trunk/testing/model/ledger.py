"""The ledger of a programme whose nodes act at once: what was sent, to whom, and what came. Pure."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from channels_trunk.testing.model.steps import is_small, owner_of

__all__ = ["ModelLedger", "Sent"]


@dataclass(slots=True)
class Sent:
    """A message; its number is its place in the order of its sender."""

    number: int
    sender: int
    """A node's life: another comes with each that takes its place."""
    to: str
    is_group: bool
    began: int
    taken: bool = False
    """Whether the sender was told that it was taken; otherwise it may come, or not."""


@dataclass(slots=True)
class _Membership:
    began: int
    ended: int = 0
    left: bool = False


@dataclass
class ModelLedger:
    """Collects what happened, each thing with its moment, and says what is wrong with it."""

    sent: dict[int, Sent] = field(default_factory=dict)
    got: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """What came in each channel, in the order of its reader; of a normal channel that of all its readers."""
    gone: set[int] = field(default_factory=set)
    """The nodes that were killed, or whose readers saw nothing for other reasons."""
    gaps: set[int] = field(default_factory=set)
    """The nodes that counted a gap."""
    lost: bool = False
    """Whether the engine lost what it held."""
    restored: bool = False
    """Whether an older copy of what it held came back."""
    _members: dict[tuple[str, str], list[_Membership]] = field(default_factory=lambda: defaultdict(list))
    _leaving: Counter[tuple[str, str]] = field(default_factory=Counter)
    _moments: int = 0

    def moment(self) -> int:
        """Return the next moment."""
        self._moments += 1
        return self._moments

    def joins(self, group: str, channel: str) -> _Membership:
        """A node begins to add a channel; its membership is certain from when joined() was called."""
        membership = _Membership(self.moment(), left=self._leaving[group, channel] > 0)
        self._members[group, channel].append(membership)
        return membership

    def joined(self, membership: _Membership) -> None:
        """The call returned."""
        membership.ended = self.moment()

    @contextlib.contextmanager
    def leaves(self, group: str, channel: str) -> Iterator[None]:
        """A node discards a channel: nothing has to come, not what was sent before, nor for who is added meanwhile."""
        self._leaving[group, channel] += 1
        for membership in self._members[group, channel]:
            membership.left = True
        yield
        self._leaving[group, channel] -= 1

    def missing(self, channel: str) -> list[int]:
        """The messages that have to be in a channel and are not."""
        owed = [message.number for message in self.sent.values() if channel in self._owed(message)]
        return [number for number in owed if number not in self.got[channel]]

    def faults(self) -> Iterator[str]:
        """Say what is wrong."""
        for channel, numbers in list(self.got.items()):
            yield from self._of_channel(channel, numbers)
        for channel in {channel for message in self.sent.values() for channel in self._owed(message)}:
            for number in self.missing(channel) if not self._is_told(channel) else ():
                yield f"lost, and no gap told of it: {number} of {self.sent[number].sender} in {channel}"

    def _of_channel(self, channel: str, numbers: list[int]) -> Iterator[str]:
        for number, count in Counter(numbers).items():
            message = self.sent[number]
            if count > 1 and not (self.restored and owner_of(channel) is None):  # Allowance.RESTORED
                yield f"came {count} times: {number} of {message.sender} in {channel}"
            if message.to != channel and not (message.is_group and self._members[message.to, channel]):
                yield f"was not for it: {number} of {message.sender} in {channel}"
        latest: dict[int, int] = {}
        for number in numbers if owner_of(channel) is not None else ():
            sender = self.sent[number].sender
            if number < latest.get(sender, 0):
                yield f"disorder: {number} of {sender} in {channel}, behind {latest[sender]}"
            latest[sender] = max(number, latest.get(sender, 0))

    def _owed(self, message: Sent) -> Iterator[str]:
        """The channels in which it has to be."""
        if not message.taken:
            return
        if not message.is_group:
            yield message.to
            return
        for (group, channel), memberships in self._members.items():
            # A small channel may have been full. Who leaves may go without what is on its way (Allowance.LEAVES).
            is_member = any(0 < member.ended < message.began and not member.left for member in memberships)
            if group == message.to and is_member and not is_small(channel):
                yield channel

    def _is_told(self, channel: str) -> bool:
        owner = owner_of(channel)
        if owner is None:
            return self.lost or bool(self.gone or self.gaps)  # Allowance.LOST, Allowance.READER_KILLED
        return owner in self.gone or owner in self.gaps
