"""A receiver pops the first message of a list without the hub's lock: whatever the others are doing meanwhile.

What holds the lock is interrupted at each of its opcodes, which is where another thread may run, also between that
thread's look at the list and its pop.
"""

import sys
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.router import FULL, Effects, Mailbox, Router
from channels_trunk.router.mailbox import LONG
from channels_trunk.router.shared import packed

NOW, FRESH, OLD = 1_000.0, 1_060.0, 999.0
CHANNEL, GROUP = "specific.node!box", "room"


class Scene:
    """A mailbox with messages, one who is in the router, and one who takes without the lock."""

    def __init__(self, ages: list[float], *, capacity: int = 100) -> None:
        self.router = Router(capacity_of=lambda _channel: capacity, group_expiry=0)
        for channel in (CHANNEL, "specific.node!another"):
            self.router.join(GROUP, channel, NOW)
        self.box: Mailbox = self.router.boxes[CHANNEL]
        self.accepted = 0
        self.box.messages = [(expires, self.body()) for expires in ages] or None
        self.taken: list[bytes] = []
        self.seen: Any = None
        self.found_expired = False

    def body(self) -> bytes:
        self.accepted += 1
        return b"%06d" % self.accepted

    def look(self) -> None:
        self.seen = self.box.messages

    def pop(self) -> None:
        if self.seen and self.seen.__class__ is list:
            expires, body = self.seen.pop(0)
            if expires > NOW:
                self.taken.append(packed(body))
            else:
                self.found_expired = True

    def lock(self) -> None:
        """What the receiver does when it gets the lock."""
        if self.found_expired:
            self.router.expired(self.box)

    def left(self) -> list[bytes]:
        return [packed(body) for _, body in self.box.messages or ()]


def send(scene: Scene) -> None:
    if scene.router.send(scene.box, (FRESH, scene.body()), NOW) is FULL:
        scene.accepted -= 1


def group_send(scene: Scene) -> None:
    scene.router.send_group(GROUP, [(FRESH, scene.body()) for _ in range(3)], NOW, Effects())


def arrive(scene: Scene) -> None:
    backlog = deque(Envelope(int(Kind.MAILBOX), CHANNEL, FRESH, scene.body()) for _ in range(2))
    scene.router.arrive(backlog, now=NOW, wall=NOW, effects=Effects(), control=lambda *_: None)
    assert not backlog


def take(scene: Scene) -> None:
    if (body := scene.router.take(scene.box, NOW)) is not None:
        scene.taken.append(packed(body))


def come(scene: Scene) -> None:
    scene.box.signalled += 1
    if (body := scene.router.come(scene.box, NOW)) is not None:
        scene.taken.append(packed(body))


def sweep(scene: Scene) -> None:
    scene.router.sweep(NOW)


def count_room(scene: Scene) -> None:
    assert scene.box.room(NOW) <= scene.box.capacity


def interrupted(work: Callable[[], None], *, at: dict[int, list[Callable[[], None]]]) -> int:
    """Do the work, and what is to be done before the opcodes with these numbers; return how many there were."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        if "channels_trunk/router/" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            for act in at.get(count, ()):
                act()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


MAILBOXES = {
    "empty": [],
    "one": [FRESH],
    "few": [FRESH] * 3,
    "some-old": [OLD, FRESH, OLD, FRESH],
    "old": [OLD],
    "nearly-long": [FRESH] * (LONG - 1),
}


@pytest.mark.parametrize(
    "work", [send, group_send, arrive, take, come, sweep, count_room], ids=lambda work: work.__name__
)
@pytest.mark.parametrize("ages", MAILBOXES.values(), ids=MAILBOXES)
def test_nothing_is_lost_or_had_twice(work: Callable[[Scene], None], ages: list[float]) -> None:
    capacity = 4 if len(ages) == 4 else 100
    scene = Scene(ages, capacity=capacity)
    opcodes = interrupted(lambda: work(scene), at={})
    # The pop may come long after the look.
    for looks in range(1, opcodes + 1):
        for pops in {looks, min(looks + 4, opcodes), opcodes}:
            scene = Scene(ages, capacity=capacity)
            acts: dict[int, list[Callable[[], None]]] = {}
            acts.setdefault(looks, []).append(scene.look)
            acts.setdefault(pops, []).append(scene.pop)
            interrupted(lambda scene=scene: work(scene), at=acts)  # type: ignore[misc]
            scene.lock()
            dropped = scene.router.counters.dropped_expired + scene.router.counters.dropped_overflow
            had = [*scene.taken, *scene.left()]
            where = f"looked at opcode {looks}, popped at {pops}"
            assert len(had) == len(set(had)), where
            missing = scene.accepted - len(had) - dropped
            # A channel whose message has expired is no member any more, and gets nothing.
            assert missing == 0 or (missing == 3 and work is group_send and not scene.box.groups), where
            assert scene.left() == sorted(scene.left()), where
            if work not in (take, come):  # of two receivers, either may be the first
                assert had == sorted(had), where
