"""Which of this node's mailboxes are in which group, and until when."""

from collections.abc import Iterable

from .mailbox import Mailbox

__all__ = ["GroupIndex"]


class GroupIndex:
    """Membership both ways: group to mailboxes, and in each mailbox the names of its groups."""

    def __init__(self) -> None:
        self._members: dict[str, dict[Mailbox, float]] = {}  # the value: when the membership ends, monotonic seconds

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, group: object) -> bool:
        return group in self._members

    def names(self) -> Iterable[str]:
        """The groups that have members."""
        return self._members.keys()

    def memberships(self) -> int:
        """How many (group, channel) pairs there are."""
        return sum(map(len, list(self._members.values())))

    def members(self, group: str) -> dict[Mailbox, float] | None:
        """The mailboxes in `group` with the end of each membership."""
        return self._members.get(group)

    def add(self, group: str, box: Mailbox, ends: float) -> None:
        """Put `box` into `group`, or renew its membership."""
        members = self._members.get(group)
        if members is None:
            members = self._members[group] = {}
        members[box] = ends
        if box.groups is None:
            box.groups = group
        elif isinstance(box.groups, set):
            box.groups.add(group)
        elif box.groups != group:
            box.groups = {box.groups, group}

    def discard(self, group: str, box: Mailbox) -> None:
        """Take `box` out of `group`, if it is in it."""
        members = self._members.get(group)
        if members is None or box not in members:
            return
        del members[box]
        if isinstance(box.groups, set):
            box.groups.discard(group)
            box.groups = box.groups or None
        else:
            box.groups = None
        if not members:
            del self._members[group]

    def discard_everywhere(self, box: Mailbox) -> None:
        """Take `box` out of all its groups."""
        for group in [box.groups] if isinstance(box.groups, str) else list(box.groups or ()):
            self.discard(group, box)

    def drop_ended(self, now: float) -> None:
        """End memberships that are over."""
        ended = [
            (group, box) for group, members in self._members.items() for box, ends in members.items() if ends <= now
        ]
        for group, box in ended:
            self.discard(group, box)

    def clear(self) -> None:
        """End every membership."""
        for members in self._members.values():
            for box in members:
                box.groups = None
        self._members.clear()
