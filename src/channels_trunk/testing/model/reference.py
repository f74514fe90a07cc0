"""The reference: what each step of a programme may come to. Pure: it neither sends nor waits.

It knows of each message in which channels it has to arrive (`sure`) or may arrive, and what may come before what. A
step whose outcome the documents leave open is in `Allowance`; everything else has one right outcome.
"""

import enum
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace

from channels_trunk.testing.model.steps import is_small, owner_of

__all__ = ["Allowance", "Difference", "Entry", "Reference"]


class Difference(AssertionError):
    """The layer did what the reference does not allow."""


class Allowance(enum.Enum):
    """Where two outcomes are right: the sentence of docs/explanation/guarantees.md that says so."""

    JOINS = "a channel that joins may get a message that another process sent a moment before"
    LEAVES = "a channel that leaves may go without a message that another process sent a moment before"
    SEVERAL_READERS = "they come behind younger ones"
    READER_KILLED = "the receiver's process dies"
    FULL_MEMBER = "a group has a member whose channel is full"
    SEVERAL_FILL = "several processes fill one channel at the same moment"
    HEARS_LATE = "Another process may hear a little late that a channel has room again"
    RECEIVED_BEFORE = "A receive() that was waiting may have its message already"


@dataclass(slots=True)
class Entry:
    """A message that has to arrive in a channel, or may."""

    number: int
    sender: int
    """A node's life: another comes with each that takes its place."""
    group: str
    sure: bool = True


class Reference:
    """What is right after the steps so far. Nodes are numbers; "1a" is a channel of node 1, "jobs" a normal channel."""

    def __init__(self, nodes: int, *, small: int) -> None:
        self._small = small
        self._numbers = 0
        self.lives = list(range(nodes))
        self.closed: set[int] = set()
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        self.members: dict[str, set[str]] = defaultdict(set)
        self.listening: set[tuple[int, str]] = set()
        self._taken: dict[str, set[int]] = defaultdict(set)
        self._readers: dict[str, set[int]] = defaultdict(set)
        self._sent: list[Entry] = []  # to groups, since the last flush
        # By sender and receiver: the newest message that the receiver had, or could not have any more.
        self._seen: dict[tuple[int, int], int] = {}
        self._born: dict[int, int] = defaultdict(int)

    def number(self) -> int:
        """Return the number of the next message."""
        self._numbers += 1
        return self._numbers

    def use(self, node: int) -> int:
        """A node does something, which opens a closed one; return which life it has."""
        if node in self.closed:
            self.closed.discard(node)
            self._born[self.lives[node]] = self._numbers
        return self.lives[node]

    # --- messages in

    def has_room(self, channel: str) -> bool:
        """Return whether the channel has room for sure."""
        return not is_small(channel) or len(self.entries[channel]) < self._small

    def send(self, node: int, channel: str, number: int, *, taken: bool) -> None:
        """A node sent a message to a channel, which was taken, or refused as the channel was full."""
        entry = Entry(number, self.use(node), "")
        if owner_of(channel) in self.closed:
            return
        if not taken and self.has_room(channel):
            raise Difference(f"node {node} was told for good that {channel} is full: {self._said(channel)}")
        if taken and self._is_full_for(entry.sender, channel):
            raise Difference(f"{channel} took a message of node {node} though it was full: {self._said(channel)}")
        if taken:
            self.entries[channel].append(entry)

    def fence(self, node: int, channel: str, number: int) -> None:
        """A node sent a message to a channel that is being received from, and that has room now or then."""
        self.entries[channel].append(Entry(number, self.use(node), ""))

    def send_untold(self, node: int, channel: str, number: int) -> None:
        """A node sent a message to a channel; nobody tells whether it was taken."""
        self._put(channel, Entry(number, self.use(node), ""))

    def group_send(self, node: int, group: str, number: int) -> None:
        """A node sent a message to a group."""
        entry = Entry(number, self.use(node), group)
        self._sent.append(entry)
        for channel in self.members[group]:
            self._put(channel, replace(entry))

    def _put(self, channel: str, entry: Entry) -> None:
        if owner_of(channel) not in self.closed and not self._is_full_for(
            entry.sender, channel, by_all=bool(entry.group)
        ):
            entry.sure = self.has_room(channel)  # Allowance.FULL_MEMBER
            self.entries[channel].append(entry)

    def _is_full_for(self, sender: int, channel: str, *, by_all: bool = False) -> bool:
        """Whether the channel is full for sure, as far as this sender has to know (Allowance.SEVERAL_FILL)."""
        held = [entry for entry in self.entries[channel] if entry.sure]
        owner = owner_of(channel)
        if owner is not None and (by_all or self.lives[owner] == sender):
            held = [entry for entry in held if not self._on_its_way(entry, channel)]
        elif owner is not None:
            # Its window, which begins anew when it opens.
            held = [e for e in held if e.sender == sender and not e.group and e.number > self._born[sender]]
        listeners = sum(listened == channel for _, listened in self.listening)
        return is_small(channel) and len(held) - listeners >= self._small

    def _on_its_way(self, entry: Entry, channel: str) -> bool:
        """Whether a message may still be on its way to a process-specific channel's node."""
        life = self.lives[owner_of(channel) or 0]
        return entry.sender != life and entry.number > max(self._seen.get((entry.sender, life), 0), self._born[life])

    # --- messages out

    def is_sure(self, channel: str) -> bool:
        """Return whether there is a message that has to come."""
        return any(entry.sure for entry in self.entries[channel])

    def received(self, node: int, channel: str, number: int) -> None:
        """A node received this message."""
        entries = self.entries[channel]
        entry = next((entry for entry in entries if entry.number == number), None)
        if entry is None:
            word = "a second time" if number in self._taken[channel] else "which was not for it"
            raise Difference(f"{channel} got message {number} {word}: {self._said(channel)}")
        self._readers[channel].add(node)
        if owner_of(channel) is not None or len(self._readers[channel]) == 1:
            self._leave_behind(channel, entry)
        entries.remove(entry)
        self._taken[channel].add(number)
        if owner_of(channel) == node:
            key = entry.sender, self.lives[node]
            self._seen[key] = max(number, self._seen.get(key, 0))

    def _leave_behind(self, channel: str, entry: Entry) -> None:
        entries = self.entries[channel]
        for before in entries[: entries.index(entry)]:
            if before.sender == entry.sender:
                if before.sure:
                    raise Difference(f"{channel} got {entry.number} before {before.number}: {self._said(channel)}")
                entries.remove(before)

    def fenced(self, channel: str, nodes: Collection[int]) -> None:
        """What these nodes sent last to the channel has come, and so what they sent before came or will not."""
        lives = {self.lives[node] for node in nodes}
        self.entries[channel] = [e for e in self.entries[channel] if e.sure or e.sender not in lives]

    # --- groups

    def add(self, node: int, group: str, channel: str) -> None:
        """A node added a channel to a group."""
        by = self.use(node)
        if owner_of(channel) in self.closed or channel in self.members[group]:
            return
        self.members[group].add(channel)
        if owner_of(channel) is None:
            return
        known = self._taken[channel] | {entry.number for entry in self.entries[channel]}
        late = [e for e in self._sent if e.group == group and e.sender != by and e.number not in known]
        late = [replace(entry, sure=False) for entry in late if self._on_its_way(entry, channel)]  # Allowance.JOINS
        self.entries[channel] = sorted([*self.entries[channel], *late], key=lambda entry: entry.number)

    def discard(self, node: int, group: str, channel: str) -> None:
        """A node took a channel out of a group."""
        by = self.use(node)
        self.members[group].discard(channel)
        if owner_of(channel) is not None:
            for entry in self.entries[channel]:
                if entry.group == group and entry.sender != by and self._on_its_way(entry, channel):
                    entry.sure = False  # Allowance.LEAVES

    # --- what befalls nodes and the engine

    def flush(self, node: int) -> None:
        """A node flushed."""
        self.use(node)
        self.members.clear()
        self._sent.clear()
        for channel in self.entries:
            self._empty(channel)

    def close(self, node: int) -> None:
        """A node closed its layer."""
        self.closed.add(node)
        for channel in [channel for channel in self.entries if owner_of(channel) == node]:
            self._empty(channel)
        self._leave_all(node)

    def replaced(self, node: int, *, killed: bool) -> None:
        """Another node came in the place of this one."""
        self.closed.discard(node)
        self.listening = {(listener, channel) for listener, channel in self.listening if listener != node}
        self._leave_all(node)
        for channel, readers in self._readers.items():
            if killed and node in readers:  # Allowance.READER_KILLED
                self._doubt(channel)
        for channel in [channel for channel in self.entries if owner_of(channel) == node]:
            self.renamed(channel)
        self.lives[node] = max(self.lives) + 1
        self._born[self.lives[node]] = self._numbers

    def renamed(self, channel: str) -> None:
        """The name stands for another channel, or for none."""
        self.entries[channel], self._taken[channel] = [], set()
        self.listening = {(node, listened) for node, listened in self.listening if listened != channel}
        for channels in self.members.values():
            channels.discard(channel)

    def listen(self, node: int, channel: str) -> None:
        """A node began to receive."""
        self.use(node)
        self.listening.add((node, channel))
        self._readers[channel].add(node)

    def _leave_all(self, node: int) -> None:
        for channels in self.members.values():
            channels -= {channel for channel in channels if owner_of(channel) == node}

    def _empty(self, channel: str) -> None:
        if any(listened == channel for _, listened in self.listening):
            self._doubt(channel)  # Allowance.RECEIVED_BEFORE
        else:
            self.entries[channel].clear()

    def _doubt(self, channel: str) -> None:
        for entry in self.entries[channel]:
            entry.sure = False

    def _said(self, channel: str) -> str:
        texts = [f"{e.number}{'' if e.sure else '?'} of {e.sender}" for e in self.entries[channel]]
        return f"the reference has {', '.join(texts) or 'nothing'}"
