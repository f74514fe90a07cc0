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

    def __contains__(self, group: str) -> bool:
        return group in self._members

    def names(self) -> Iterable[str]:
        """The groups that have members."""
        return self._members.keys()

    def memberships(self) -> int:
        """How many (group, channel) pairs there are."""
        return sum(map(len, self._members.values()))

    def members(self, group: str) -> dict[Mailbox, float] | None:
        """The mailboxes in `group` with the end of each membership."""
        return self._members.get(group)

    def add(self, group: str, box: Mailbox, ends: float) -> bool:
        """Put `box` into `group`, or renew its membership; True if the group had no member before."""
        members = self._members.get(group)
        new = members is None
        if members is None:
            members = self._members[group] = {}
        members[box] = ends
        if box.groups is None:
            box.groups = group
        elif isinstance(box.groups, set):
            box.groups.add(group)
        elif box.groups != group:
            box.groups = {box.groups, group}
        return new

    def discard(self, group: str, box: Mailbox) -> bool:
        """Take `box` out of `group`; True if the group has no member left because of that."""
        members = self._members.get(group)
        if members is None or box not in members:
            return False
        del members[box]
        if isinstance(box.groups, set):
            box.groups.discard(group)
            box.groups = box.groups or None
        else:
            box.groups = None
        if members:
            return False
        del self._members[group]
        return True

    def discard_everywhere(self, box: Mailbox) -> list[str]:
        """Take `box` out of all its groups; return those that have no member left."""
        groups = [box.groups] if isinstance(box.groups, str) else list(box.groups or ())
        return [group for group in groups if self.discard(group, box)]

    def drop_ended(self, now: float) -> list[str]:
        """End memberships that are over; return the groups that have no member left."""
        ended = [
            (group, box) for group, members in self._members.items() for box, ends in members.items() if ends <= now
        ]
        return [group for group, box in ended if self.discard(group, box)]

    def clear(self) -> None:
        """End every membership."""
        for members in self._members.values():
            for box in members:
                box.groups = None
        self._members.clear()
