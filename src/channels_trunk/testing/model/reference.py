"""The reference: what each step of a programme may come to. Pure: it neither sends nor waits.

It knows of each message in which channels it has to arrive (`sure`) or may arrive, and what may come before what. Where
the documents leave an outcome open, an Allowance is named; everything else has one right outcome.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from channels_trunk.testing.model.steps import is_small, owner_of

__all__ = ["GAP", "Difference", "Entry", "Reference"]

GAP = 0
"""The number of the gap event."""


class Difference(AssertionError):
    """The layer did what the reference does not allow."""


@dataclass(slots=True)
class Entry:
    """A message that has to arrive in a channel, or may. `sender` is a node's life, which ends when it is replaced."""

    number: int
    sender: int
    group: str = ""
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
        self.may_lose = False
        """Whether something was lost: who finds it out counts a gap, be it late, or once more."""
        self._sent: list[Entry] = []  # to groups, as long as they may be on their way
        # By sender and receiver: the newest message that the receiver had; by life: the newest when it opened.
        self._seen: dict[tuple[int, int], int] = {}
        self._born: dict[int, int] = defaultdict(int)
        self._copy_of_jobs: dict[str, list[Entry]] = {}
        self._copy_of_members: dict[str, set[str]] = {}

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

    def send(self, node: int, channel: str, number: int, *, taken: bool | None) -> None:
        """A node sent a message to a channel; it was taken, or refused as the channel was full, or nobody tells."""
        # What nobody tells may have been refused by a sender that hears late that there is room (Allowance.HEARS_LATE).
        is_sure = not is_small(channel) or (owner_of(channel) in (None, node) and self.has_room(channel))
        entry = Entry(number, self.use(node), sure=taken or is_sure)
        is_full = self._is_full_for(entry, channel)
        if owner_of(channel) in self.closed:  # Allowance.CLOSED
            return
        if taken is False and self.has_room(channel):
            raise Difference(f"node {node} was told for good that {channel} is full: {self.said(channel)}")
        if taken and is_full:
            raise Difference(f"{channel} took message {number}, though it was full: {self.said(channel)}")
        if taken is not False and not is_full:
            self.entries[channel].append(entry)

    def fence(self, node: int, channel: str, number: int) -> None:
        """A node sent a message to a channel that is being received from, and that has room now or then."""
        self.entries[channel].append(Entry(number, self.use(node)))

    def group_send(self, node: int, group: str, number: int) -> None:
        """A node sent a message to a group."""
        self._sent.append(Entry(number, self.use(node), group))
        for channel in self.members[group]:
            entry = replace(self._sent[-1], sure=self.has_room(channel))  # Allowance.FULL_MEMBER
            if owner_of(channel) not in self.closed and not self._is_full_for(entry, channel):
                self.entries[channel].append(entry)

    def _is_full_for(self, entry: Entry, channel: str) -> bool:
        held = [held for held in self.entries[channel] if held.sure]
        owner = owner_of(channel)
        if owner is not None and not entry.group and entry.sender != self.lives[owner]:
            # Allowance.WINDOWS; a window begins anew when its layer opens.
            born = self._born[entry.sender]
            held = [e for e in held if e.sender == entry.sender and not e.group and e.number > born]
        elif owner is not None:
            held = [held for held in held if not self._on_its_way(held, channel)]
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
        self._readers[channel].add(node)
        entry = next((entry for entry in entries if entry.number == number), None)
        if entry is None:
            if number == GAP and self.may_lose:
                return  # Allowance.LOST
            word = "a second time" if number in self._taken[channel] else "which was not for it"
            raise Difference(f"{channel} got message {number} {word}: {self.said(channel)}")
        if owner_of(channel) is not None or len(self._readers[channel]) == 1:  # or Allowance.SEVERAL_READERS
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
                    raise Difference(f"{channel} got {entry.number} before {before.number}: {self.said(channel)}")
                entries.remove(before)

    def fenced(self, channel: str, nodes: Iterable[int]) -> None:
        """What these nodes sent last to the channel has come, and so what they sent before came or will not."""
        lives = {self.lives[node] for node in nodes}
        if owner_of(channel) is not None or len(self._readers[channel]) == 1:
            self.entries[channel] = [e for e in self.entries[channel] if e.sure or e.sender not in lives]

    # --- groups

    def add(self, node: int, group: str, channel: str) -> None:
        """A node added a channel to a group."""
        by = self.use(node)
        if owner_of(channel) in self.closed or channel in self.members[group]:
            return
        self.members[group].add(channel)
        if owner_of(channel) is not None:
            known = self._taken[channel] | {entry.number for entry in self.entries[channel]}
            late = [e for e in self._sent if e.group == group and e.sender != by and e.number not in known]
            late = [replace(entry, sure=False) for entry in late if self._on_its_way(entry, channel)]  # Allowance.JOINS
            self.entries[channel] = sorted([*self.entries[channel], *late], key=lambda entry: entry.number)

    def discard(self, node: int, group: str, channel: str) -> None:
        """A node took a channel out of a group."""
        by = self.use(node)
        self.members[group].discard(channel)
        for entry in self.entries[channel] if owner_of(channel) is not None else ():
            if entry.group == group and entry.sender != by and self._on_its_way(entry, channel):
                entry.sure = False  # Allowance.LEAVES

    def _leave_all(self, channels: Collection[str]) -> None:
        for members in self.members.values():
            members.difference_update(channels)

    # --- what befalls nodes and the engine

    def listen(self, node: int, channel: str) -> None:
        """A node began to receive."""
        self.use(node)
        self.listening.add((node, channel))
        self._readers[channel].add(node)

    def flush(self, node: int) -> None:
        """A node flushed."""
        self.use(node)
        self.members.clear()
        self._sent.clear()
        self._empty(self.entries)

    def close(self, node: int) -> None:
        """A node closed its layer."""
        self.closed.add(node)
        self._empty(self._own(node))
        self._leave_all(self._own(node))

    def replaced(self, node: int, *, killed: bool) -> None:
        """Another node came in the place of this one."""
        self.closed.discard(node)
        self.listening = {(listener, channel) for listener, channel in self.listening if listener != node}
        for channel in self._own(node):
            self.renamed(channel)
        if killed:  # Allowance.READER_KILLED
            self._doubt(channel for channel, readers in self._readers.items() if node in readers)
        self.lives[node] = max(self.lives) + 1
        self._born[self.lives[node]] = self._numbers

    def renamed(self, channel: str) -> None:
        """The name stands for another channel, or for none."""
        self.entries[channel], self._taken[channel] = [], set()
        self.listening = {(node, listened) for node, listened in self.listening if listened != channel}
        self._leave_all({channel})

    def expired(self) -> None:
        """So much time passed that every message is too old; nobody listens, and each channel was fenced."""
        self._leave_all({name for name in self.entries if owner_of(name) is not None and self.is_sure(name)})
        self._sent.clear()
        self._empty(self.entries)

    def lost(self, *, mail: bool = True, told: bool = True, jobs: bool = True, members: bool = True) -> None:
        """The engine lost this; if it is `told`, every node has noticed (Allowance.LOST)."""
        self.may_lose = True
        normal = {name for name in {*self.entries, *set().union(*self.members.values())} if owner_of(name) is None}
        if members:
            self._leave_all(normal)
        if jobs:
            self._empty(normal)
        for channel in {*self.entries} - normal if mail else ():
            for entry in self.entries[channel]:
                entry.sure = entry.sure and not self._on_its_way(entry, channel)
        for channel in set().union(*self.members.values()) - normal if told else ():
            self.entries[channel].append(Entry(GAP, -1, sure=self.has_room(channel)))

    def copied(self) -> None:
        """Somebody copied what the engine holds: jobs that nobody claimed, and memberships."""
        self._copy_of_jobs = {c: list(e) for c, e in self.entries.items() if owner_of(c) is None}
        self._copy_of_members = {g: {c for c in m if owner_of(c) is None} for g, m in self.members.items()}

    def restored(self) -> None:
        """Behind lost(): the copy is in place."""
        for channel, entries in self._copy_of_jobs.items():
            self.entries[channel] += [replace(e, sender=-1, sure=False) for e in entries]  # Allowance.RESTORED
        for group, members in self._copy_of_members.items():
            self.members[group] |= members

    def gap_told(self) -> None:
        """A node counted a gap when its connection was lost: a job that it was about to take may be lost."""
        self._doubt(name for name in self.entries if owner_of(name) is None)  # Allowance.LOST
        self.may_lose = True

    def _own(self, node: int) -> set[str]:
        return {name for name in {*self.entries, *set().union(*self.members.values())} if owner_of(name) == node}

    def _empty(self, channels: Iterable[str]) -> None:
        listened = {channel for _, channel in self.listening}
        for channel in channels:
            if channel in listened:
                self._doubt([channel])  # Allowance.RECEIVED_BEFORE
            else:
                self.entries[channel].clear()

    def _doubt(self, channels: Iterable[str]) -> None:
        for channel in channels:
            for entry in self.entries[channel]:
                entry.sure = False

    def said(self, channel: str) -> str:
        """Say what has to come, and what may."""
        texts = [f"{e.number}{'' if e.sure else '?'} of {e.sender}" for e in self.entries[channel]]
        return f"the reference has {', '.join(texts) or 'nothing'}"
