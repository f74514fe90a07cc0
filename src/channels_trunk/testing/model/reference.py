"""The reference: what each step of a programme may come to. Pure: it neither sends nor waits.

It knows of each message in which channels it has to arrive (`sure`) or may arrive, and what may come before what. Where
the documents leave an outcome open, an Allowance is named; everything else has one right outcome.
"""

from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain

from channels_trunk.testing.model.allowances import Difference
from channels_trunk.testing.model.steps import GAP, is_small, owner_of

__all__ = ["Entry", "Reference"]


@dataclass(slots=True)
class Entry:
    """A message that has to arrive in a channel, or may. `sender` is a node's life, which ends when it is replaced."""

    number: int
    sender: int
    group: str = ""
    sure: bool = True
    in_window: bool = False
    """Whether it counts for how many its sender may send that has not heard how much room there is."""


class Reference:
    """What is right after the steps so far. Nodes are numbers; "1a" is a channel of node 1, "jobs" a normal channel."""

    def __init__(self, nodes: int, *, small: int) -> None:
        self._small = small
        self.lives = list(range(nodes))
        self.closed: set[int] = set()
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        self.members: dict[str, set[str]] = defaultdict(set)
        self.listening: set[tuple[int, str]] = set()
        self.may_lose = False  # from then on a gap may be told at any time, be it late or once more
        # By node: what has perhaps not come there yet.
        self._underway: dict[int | None, list[Entry]] = defaultdict(list)
        self._readers: dict[str, set[int]] = defaultdict(set)
        self._taken: set[tuple[str, int]] = set()
        self._copy: tuple[dict[str, list[Entry]], dict[str, set[str]]] = ({}, {})

    def use(self, node: int) -> int:
        """A node does something, which opens it if it is closed; return which life it has."""
        self.closed.discard(node)
        return self.lives[node]

    # --- messages in

    def has_room(self, channel: str) -> bool:
        """Return whether the channel has room for sure."""
        return not is_small(channel) or len(self.entries[channel]) < self._small

    def send(self, node: int, channel: str, number: int, *, taken: bool | None) -> None:
        """A node sent a message to a channel; it was taken, or refused as the channel was full, or nobody tells."""
        life, owner = self.use(node), owner_of(channel)
        has_room, knows = self.has_room(channel), owner in (None, node)
        held = self._arrived(channel)
        if not knows:  # Allowance.WINDOWS
            held = [e for e in self.entries[channel] if e.sender == life and e.in_window]
        if owner in self.closed:  # Allowance.CLOSED
            return
        if taken is False and has_room:
            raise Difference(f"node {node} was told for good that {channel} is full: {self.said(channel)}")
        if taken and self._is_full(channel, held):
            raise Difference(f"{channel} took message {number}, though it was full: {self.said(channel)}")
        if taken is not False and not self._is_full(channel, held):
            # What nobody tells may have been refused, as a sender hears late that there is room (Allowance.HEARS_LATE).
            is_sure = taken or not is_small(channel) or (knows and has_room)
            self.put(channel, Entry(number, life, sure=is_sure, in_window=not knows))

    def put(self, channel: str, entry: Entry) -> None:
        """A channel has room for a message, now or then."""
        self.entries[channel].append(entry)
        self._underway[owner_of(channel)].append(entry)

    def group_send(self, node: int, group: str, number: int) -> None:
        """A node sent a message to a group."""
        entry = Entry(number, self.use(node), group)
        for channel in self.members[group]:
            # What comes from elsewhere may come when there is room again.
            if owner_of(channel) not in (None, node) or not self._is_full(channel, self._arrived(channel)):
                self.entries[channel].append(replace(entry, sure=self.has_room(channel)))  # Allowance.FULL_MEMBER
        for other in {*range(len(self.lives))} - self.closed:
            self._underway[other].append(entry)

    def _is_full(self, channel: str, held: Iterable[Entry]) -> bool:
        listeners = sum(listened == channel for _, listened in self.listening)
        return is_small(channel) and sum(entry.sure for entry in held) - listeners >= self._small

    def _arrived(self, channel: str) -> list[Entry]:
        return [entry for entry in self.entries[channel] if not self._is_underway(entry, channel)]

    def _is_underway(self, entry: Entry, channel: str) -> bool:
        owner = owner_of(channel)
        others = self._underway[owner] if owner is not None and entry.sender != self.lives[owner] else ()
        return any(entry.number == other.number for other in others)

    # --- messages out

    def is_sure(self, channel: str) -> bool:
        """Return whether there is a message that has to come."""
        return any(entry.sure for entry in self.entries[channel])

    def received(self, node: int, channel: str, number: int) -> None:
        """A node received this message."""
        self._readers[channel].add(node)
        entries, owner = self.entries[channel], owner_of(channel)
        # Of gap events that cannot be told apart, the one that has to come.
        entry = min((e for e in entries if e.number == number), key=lambda e: not e.sure, default=None)
        if entry is None:
            if number == GAP and self.may_lose:  # Allowance.LOST
                return
            word = "a second time" if (channel, number) in self._taken else "which was not for it"
            raise Difference(f"{channel} got message {number} {word}: {self.said(channel)}")
        for before in entries[: entries.index(entry)] if self._is_in_order(channel) else ():
            if before.sender == entry.sender:
                if before.sure:
                    raise Difference(f"{channel} got {number} before {before.number}: {self.said(channel)}")
                entries.remove(before)
        entries.remove(entry)
        self._taken.add((channel, number))
        self._underway[owner] = [e for e in self._underway[owner] if e.sender != entry.sender or e.number > number]

    def _is_in_order(self, channel: str) -> bool:
        return owner_of(channel) is not None or len(self._readers[channel]) == 1  # Allowance.SEVERAL_READERS

    def fenced(self, channel: str, nodes: Iterable[int]) -> None:
        """What these nodes sent last to the channel has come, and so what they sent before came or will not."""
        lives = {self.lives[node] for node in nodes}
        if self._is_in_order(channel):
            self.entries[channel] = [e for e in self.entries[channel] if e.sure or e.sender not in lives]

    # --- groups

    def add(self, node: int, group: str, channel: str) -> None:
        """A node added a channel to a group."""
        by, entries = self.use(node), self.entries[channel]
        if owner_of(channel) not in self.closed and channel not in self.members[group]:
            self.members[group].add(channel)
            late = [e for e in self._underway[owner_of(channel)] if e.group == group and e.sender != by]
            late = [e for e in late if self._is_underway(e, channel) and all(e.number != own.number for own in entries)]
            entries += [replace(entry, sure=False) for entry in late]  # Allowance.JOINS
            entries.sort(key=lambda entry: entry.number)

    def discard(self, node: int, group: str, channel: str) -> None:
        """A node took a channel out of a group."""
        by = self.use(node)
        self.members[group].discard(channel)
        for entry in self.entries[channel]:
            if entry.group == group and entry.sender != by and self._is_underway(entry, channel):
                entry.sure = False  # Allowance.LEAVES

    # --- what befalls nodes and the engine

    def listen(self, node: int, channel: str) -> None:
        """A node began to receive."""
        self.use(node)
        self.listening.add((node, channel))
        self._readers[channel].add(node)

    def flush(self, node: int) -> None:
        """A node flushed."""
        self.use(node)
        self._underway.clear()
        self._end(self.entries, self.entries)

    def close(self, node: int) -> None:
        """A node closed its layer."""
        self.closed.add(node)
        self._underway[node].clear()
        self._end(self._of(node), self._of(node))
        for entry in chain(*self.entries.values()):
            entry.in_window = entry.in_window and entry.sender != self.lives[node]

    def replaced(self, node: int, *, killed: bool) -> None:
        """Another node came in the place of this one, and has none of its channels."""
        self.listening = {(listener, channel) for listener, channel in self.listening if listener != node}
        self.close(node)
        self.use(node)
        if killed:  # Allowance.READER_KILLED
            self._doubt(channel for channel, readers in self._readers.items() if node in readers)
        self.lives[node] = max(self.lives) + 1

    def renamed(self, channel: str) -> None:
        """The name stands for another channel."""
        self.listening = {(node, listened) for node, listened in self.listening if listened != channel}
        self._end({channel}, {channel})

    def expired(self) -> None:
        """So much time passed that every message is too old; nobody listens, and each channel was fenced."""
        unread = {name for name in self.entries if owner_of(name) is not None and self.is_sure(name)}
        self._underway.clear()
        self._end(self.entries, unread)

    def gap_told(self) -> None:
        """A node counted a gap when its connection was lost: a job that it was about to take may be lost."""
        self.may_lose = True
        self._doubt(self._of(None))

    def lost(self, *, mail: bool = True, told: bool = True, jobs: bool = True, members: bool = True) -> None:
        """The engine lost this; if it is `told`, every node has noticed (Allowance.LOST)."""
        self.may_lose = True
        normal = self._of(None)
        self._end(normal if jobs else (), normal if members else ())
        for channel in {*self.entries} - normal:
            for entry in self.entries[channel] if mail else ():
                entry.sure = entry.sure and not self._is_underway(entry, channel)
            if told and any(channel in members for members in self.members.values()):
                self.entries[channel].append(Entry(GAP, -1, sure=self.has_room(channel)))

    def copied(self) -> None:
        """Somebody copied what the engine holds."""
        self._copy = deepcopy((self.entries, self.members))

    def restored(self) -> None:
        """Behind lost(): the copy is in place."""
        for channel in self._of(None):
            entries = self._copy[0].get(channel, ())
            self.entries[channel] += [replace(e, sender=-1, sure=False) for e in entries]  # Allowance.RESTORED
            for group, members in self._copy[1].items():
                self.members[group] |= {channel} & members

    def _of(self, node: int | None) -> set[str]:
        return {name for name in self.entries if owner_of(name) == node}

    def _end(self, channels: Iterable[str], members: Iterable[str]) -> None:
        """These channels are empty, and these are in no group."""
        for group in self.members.values():
            group.difference_update(members)
        self._doubt(channels)  # Allowance.RECEIVED_BEFORE
        for channel in {*channels} - {channel for _, channel in self.listening}:
            self.entries[channel].clear()

    def _doubt(self, channels: Iterable[str]) -> None:
        for channel in channels:
            for entry in self.entries[channel]:
                entry.sure = False

    def said(self, channel: str) -> str:
        """Say what has to come, and what may."""
        texts = [f"{e.number}{'' if e.sure else '?'} of {e.sender}" for e in self.entries[channel]]
        return f"the reference has {', '.join(texts) or 'nothing'}"
