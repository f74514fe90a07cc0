"""The router as a model: whatever happens in whatever order, nothing is lost or doubled."""

from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channels_trunk.router import FULL, Body, Effects, Mailbox
from channels_trunk.router.shared import packed
from tests.unit.router.small import CAPACITY, CHANNELS, EXPIRY, GROUP_EXPIRY, make_router

pytestmark = pytest.mark.timeout(300)

GROUPS = ("g", "h")


class RouterMachine(RuleBasedStateMachine):
    """Receivers come, are woken, take or give up; messages come and expire: each is taken, expired or dropped once."""

    capacity: ClassVar[int] = CAPACITY

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.router = make_router(capacity=self.capacity)
        self.number = 0
        self.queues: dict[str, list[tuple[float, int]]] = {channel: [] for channel in CHANNELS}
        self.parked: dict[str, list[str]] = {channel: [] for channel in CHANNELS}
        self.woken: dict[str, list[str]] = {channel: [] for channel in CHANNELS}
        self.members: dict[tuple[str, str], float] = {}

    def _entry(self) -> tuple[float, bytes]:
        self.number += 1
        return self.now + EXPIRY, b"%d" % self.number

    def _fresh(self, channel: str) -> list[tuple[float, int]]:
        """What the model holds; a channel with an expired message leaves its groups as soon as it is looked at."""
        queue = self.queues[channel]
        fresh = [entry for entry in queue if entry[0] > self.now]
        if len(fresh) < len(queue):
            self.members = {key: ends for key, ends in self.members.items() if key[1] != channel}
            self.queues[channel] = fresh
        return self.queues[channel]

    def _delivered(self, channel: str, entry: tuple[float, bytes], woken: object) -> None:
        self.queues[channel].append((entry[0], int(entry[1])))
        expected = self.parked[channel].pop(0) if self.parked[channel] else None
        assert woken == expected
        if expected is not None:
            self.woken[channel].append(expected)

    @rule(channel=st.sampled_from(CHANNELS))
    def send(self, channel: str) -> None:
        entry = self._entry()
        full = len(self._fresh(channel)) >= self.capacity
        outcome = self.router.send(self.router.box(channel), entry, self.now)
        assert (outcome is FULL) == full
        if not full:
            self._delivered(channel, entry, outcome)

    @rule(group=st.sampled_from(GROUPS), count=st.integers(1, 4))
    def group_send(self, group: str, count: int) -> None:
        """Several at once, as they may have come together."""
        entries, effects = [self._entry() for _ in range(count)], Effects()
        members = [channel for channel in CHANNELS if (group, channel) in self.members]
        self.router.send_group(group, list(entries), self.now, effects)
        wakes = list(effects.wakes)
        for channel in members:
            for entry in entries:
                if len(self.queues[channel]) < self.capacity:
                    woken = self.parked[channel][0] if self.parked[channel] else None
                    if woken is not None:
                        assert woken in wakes
                        wakes.remove(woken)
                    self._delivered(channel, entry, woken)
        assert wakes == []

    @rule(group=st.sampled_from(GROUPS), channel=st.sampled_from(CHANNELS))
    def join(self, group: str, channel: str) -> None:
        self._fresh(channel)
        self.router.join(group, channel, self.now)
        self.members[group, channel] = self.now + GROUP_EXPIRY

    @rule(group=st.sampled_from(GROUPS), channel=st.sampled_from(CHANNELS))
    def leave(self, group: str, channel: str) -> None:
        self.router.leave(group, channel)
        self.members.pop((group, channel), None)

    @rule(channel=st.sampled_from(CHANNELS))
    def receive(self, channel: str) -> None:
        """Take what is there, or park."""
        self._received(channel, self.router.take)

    def _received(self, channel: str, take: Callable[[Mailbox, float], Body | None]) -> None:
        fresh = self._fresh(channel)
        box = self.router.box(channel)
        body = take(box, self.now)
        assert (body and packed(body)) == (b"%d" % fresh.pop(0)[1] if fresh else None)
        if body is None:
            self.number += 1
            waiter = f"w{self.number}"
            box.add_waiter(waiter)
            self.parked[channel].append(waiter)

    @precondition(lambda self: any(self.woken.values()))
    @rule(data=st.data())
    def woken_receiver_comes(self, data: st.DataObject) -> None:
        channel = data.draw(st.sampled_from([channel for channel in CHANNELS if self.woken[channel]]))
        waiter = data.draw(st.sampled_from(self.woken[channel]))
        self.woken[channel].remove(waiter)
        self._received(channel, self.router.come)

    @rule(data=st.data())
    def receiver_gives_up(self, data: st.DataObject) -> None:
        candidates = [(c, w) for c in CHANNELS for w in (*self.parked[c], *self.woken[c])]
        if not candidates:
            return
        channel, waiter = data.draw(st.sampled_from(candidates))
        effects = Effects()
        signalled = waiter in self.woken[channel]
        self.router.abandon(self.router.box(channel), waiter, effects)
        (self.woken if signalled else self.parked)[channel].remove(waiter)
        for following in effects.wakes:
            assert following == self.parked[channel].pop(0)
            self.woken[channel].append(following)

    @rule(seconds=st.sampled_from([1.0, EXPIRY / 2, EXPIRY, GROUP_EXPIRY]))
    def time_passes(self, seconds: float) -> None:
        """The hub sweeps now and then; here always, so that the model need not know who looked at what, when."""
        self.now += seconds
        self.router.sweep(self.now)
        self.members = {key: ends for key, ends in self.members.items() if ends > self.now}
        for channel in CHANNELS:
            self._fresh(channel)

    @rule()
    def flush(self) -> None:
        self.router.flush()
        self.members.clear()
        for queue in self.queues.values():
            queue.clear()

    @invariant()
    def no_receiver_sleeps_while_a_message_waits_for_nobody(self) -> None:
        for channel in CHANNELS:
            if self.parked[channel]:
                assert len(self.queues[channel]) <= len(self.woken[channel]), "a lost wake-up"

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        for channel in CHANNELS:
            box = self.router.boxes.get(channel)
            held = [int(packed(body)) for _, body in (box.messages or ())] if box else []
            assert held == [number for _, number in self.queues[channel]]
            assert len(held) <= self.capacity
            assert (box.all_waiters() if box else []) == self.parked[channel]
            assert (box.signalled if box else 0) == len(self.woken[channel])
        assert self.router.groups.memberships() == len(self.members)
        assert all(box.signalled > 0 for box in self.router.pressed)

    def teardown(self) -> None:
        """When all is over, nothing is left."""
        for channel in CHANNELS:
            for waiter in (*self.parked[channel], *self.woken[channel]):
                self.router.abandon(self.router.box(channel), waiter, Effects())
        self.router.flush()
        self.router.sweep(self.now)
        assert self.router.boxes == {}
        assert len(self.router.groups) == 0
        assert not self.router.pressed


class RoomyRouterMachine(RouterMachine):
    """With room for more than are in a list."""

    capacity = 40


TestRouterMachine = RouterMachine.TestCase
TestRouterMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestRoomyRouterMachine = RoomyRouterMachine.TestCase
TestRoomyRouterMachine.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
