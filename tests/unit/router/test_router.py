"""Mailboxes, groups and the router, by example and as a model, with time as an argument."""

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.router import FULL, Effects, Mailbox, Router

CAPACITY = 4
EXPIRY = 60.0
GROUP_EXPIRY = 100.0
CHANNELS = ("a", "b", "c")
GROUPS = ("g", "h")


def make_router(*, group_expiry: float = GROUP_EXPIRY) -> Router:
    return Router(capacity_of=lambda _channel: CAPACITY, group_expiry=group_expiry)


def fill(router: Router, channel: str, *, expires: float = EXPIRY, count: int = CAPACITY) -> Mailbox:
    box = router.box(channel)
    for number in range(count):
        assert router.send(box, (expires, b"%d" % number), 0.0) is None
    return box


def no_control(envelope: Envelope, effects: Effects) -> None:
    raise AssertionError(envelope)


def arrive(router: Router, *envelopes: Envelope, now: float = 0.0, wall: float = 1e9) -> deque[Envelope]:
    backlog = deque(envelopes)
    router.arrive(backlog, now=now, wall=wall, effects=Effects(), control=no_control)
    return backlog


# --- capacity and expiry


def test_full_channel_takes_no_more() -> None:
    router = make_router()
    box = fill(router, "a")
    assert router.send(box, (EXPIRY, b"x"), 0.0) is FULL
    assert [router.take(box, 0.0) for _ in range(5)] == [b"0", b"1", b"2", b"3", None]
    assert router.send(box, (EXPIRY, b"x"), 0.0) is None


def test_expired_messages_do_not_count_and_do_not_come() -> None:
    router = make_router()
    box = fill(router, "a", expires=10.0)
    assert router.send(box, (20.0, b"x"), 10.0) is None
    assert router.take(box, 10.0) == b"x"
    assert router.counters.dropped_expired == CAPACITY


def test_channel_whose_message_expires_leaves_its_groups() -> None:
    router = make_router()
    router.join("g", "a", 0.0)
    router.join("h", "a", 0.0)
    router.join("g", "b", 0.0)
    fill(router, "a", expires=10.0, count=1)
    router.send_group("g", (20.0, b"x"), 10.0, Effects())
    assert "h" not in router.groups
    assert router.groups.memberships() == 1
    assert not router.box("a").messages
    assert router.take(router.box("b"), 10.0) == b"x"


def test_group_goes_on_past_a_full_member() -> None:
    router = make_router()
    for channel in CHANNELS:
        router.join("g", channel, 0.0)
    fill(router, "b")
    effects = Effects()
    router.send_group("g", (EXPIRY, b"x"), 0.0, effects)
    assert [len(router.box(channel).messages or ()) for channel in CHANNELS] == [1, CAPACITY, 1]
    assert router.counters.dropped_overflow == 1
    assert effects.overflowed == "b"


@pytest.mark.parametrize(("group_expiry", "left"), [(GROUP_EXPIRY, 0), (0.0, 1)])
def test_membership_ends_after_group_expiry(group_expiry: float, left: int) -> None:
    router = make_router(group_expiry=group_expiry)
    router.join("g", "a", 0.0)
    router.sweep(GROUP_EXPIRY - 1)
    assert router.groups.memberships() == 1
    router.send_group("g", (1e6, b"x"), GROUP_EXPIRY, Effects())
    assert len(router.box("a").messages or ()) == left
    router.sweep(GROUP_EXPIRY)
    assert router.groups.memberships() == left


def test_group_add_renews_the_membership() -> None:
    router = make_router()
    router.join("g", "a", 0.0)
    router.join("g", "a", 50.0)
    router.sweep(GROUP_EXPIRY + 49)
    assert router.groups.memberships() == 1
    router.leave("g", "a")
    assert "g" not in router.groups
    router.leave("g", "a")
    router.leave("g", "never made")
    assert len(router.groups) == 0


# --- receivers


def test_signal_goes_to_the_receiver_that_waited_longest() -> None:
    router = make_router()
    box = router.box("a")
    for waiter in ("one", "two", "three"):
        box.add_waiter(waiter)
    assert [router.send(box, (EXPIRY, b"x"), 0.0) for _ in range(4)] == ["one", "two", "three", None]


def test_receiver_that_gives_up_hands_its_signal_on() -> None:
    router = make_router()
    box = router.box("a")
    box.add_waiter("one")
    box.add_waiter("two")
    assert router.send(box, (EXPIRY, b"x"), 0.0) == "one"
    effects = Effects()
    router.abandon(box, "one", effects)
    assert effects.wakes == ["two"]
    assert router.come(box, 0.0) == b"x"


def test_receiver_that_gives_up_before_its_signal_takes_nothing_along() -> None:
    router = make_router()
    box = router.box("a")
    box.add_waiter("one")
    box.add_waiter("two")
    effects = Effects()
    router.abandon(box, "one", effects)
    assert effects.wakes == []
    assert router.send(box, (EXPIRY, b"x"), 0.0) == "two"


def test_surplus_is_the_newest_that_nobody_comes_for() -> None:
    router = make_router()
    box = router.box("a")
    box.add_waiter("one")
    for body in (b"0", b"1", b"2"):
        router.admit(box, (EXPIRY, body))
    assert [body for _, body in router.surplus(box)] == [b"1", b"2"]
    assert router.surplus(box) == []
    assert router.come(box, 0.0) == b"0"


def test_no_surplus_while_somebody_waits() -> None:
    router = make_router()
    box = fill(router, "a")
    box.add_waiter("one")
    assert router.surplus(box) == []


def test_pressed_until_the_woken_receiver_comes() -> None:
    router = make_router()
    box = router.box("a")
    box.add_waiter("one")
    router.send(box, (EXPIRY, b"x"), 0.0)
    assert not router.pressed
    router.send(box, (EXPIRY, b"x"), 0.0)
    assert router.pressed == {box}
    router.come(box, 0.0)
    assert not router.pressed


def test_nobody_steps_aside_for_a_receiver_that_did_not_come() -> None:
    router = make_router()
    box = router.box("a")
    box.add_waiter("one")
    for _ in range(CAPACITY):
        router.send(box, (EXPIRY, b"x"), 0.0)
    router.stop_stepping_aside()
    assert not router.pressed
    assert box.late
    router.admit(box, (EXPIRY, b"x"))
    assert not router.pressed
    router.come(box, 0.0)
    assert not box.late


# --- arrivals from other nodes


def mailbox(channel: str, body: bytes, *, expires_at: float = 2e9) -> Envelope:
    return Envelope(Kind.MAILBOX, channel, expires_at, body)


def test_wall_clock_expiry_becomes_monotonic() -> None:
    router = make_router()
    arrive(router, mailbox("a", b"late", expires_at=1e9), mailbox("a", b"soon", expires_at=1e9 + 10), now=5.0, wall=1e9)
    assert router.counters.dropped_expired == 1
    assert router.box("a").messages == [(15.0, b"soon")]


def test_other_nodes_may_fill_beyond_the_capacity_but_not_without_end() -> None:
    router = make_router()
    accepted = 0
    for _ in range(1000):
        arrive(router, *[mailbox("a", b"x")] * 10)
        accepted = len(router.box("a").messages or ())
    assert CAPACITY * 8 <= accepted < 1000
    assert router.counters.dropped_overflow == 10_000 - accepted


def test_delivery_stops_in_front_of_a_receiver_that_needs_its_turn() -> None:
    router = make_router()
    box = router.box("a")
    box.add_waiter("one")
    left = arrive(router, *(mailbox("a", b"%d" % number) for number in range(10)))
    assert len(left) == 8
    assert router.come(box, 0.0) == b"0"
    router.arrive(left, now=0.0, wall=1e9, effects=Effects(), control=no_control)
    assert not left
    assert [router.take(box, 0.0) for _ in range(9)] == [b"%d" % number for number in range(1, 10)]


def test_controls_are_handed_on_in_order() -> None:
    router = make_router()
    seen: list[tuple[bytes, int]] = []

    def control(envelope: Envelope, _effects: Effects) -> None:
        seen.append((envelope.body, len(router.box("a").messages or ())))

    backlog = deque(
        [Envelope(Kind.CONTROL, "n", 0.0, b"1"), mailbox("a", b"x"), Envelope(Kind.CONTROL, "n", 0.0, b"2")]
    )
    router.arrive(backlog, now=0.0, wall=1e9, effects=Effects(), control=control)
    assert seen == [(b"1", 0), (b"2", 1)]


def test_gap_event_goes_to_members_alone() -> None:
    router = make_router()
    router.join("g", "a", 0.0)
    router.join("h", "a", 0.0)
    router.box("b")
    fill(router, "c")
    router.join("g", "c", 0.0)
    router.tell_members((EXPIRY, b"gap"), 0.0, Effects())
    assert [len(router.box(channel).messages or ()) for channel in CHANNELS] == [1, 0, CAPACITY]


def test_flush_spares_what_it_is_told_to() -> None:
    router = make_router()
    for channel in CHANNELS:
        fill(router, channel)
        router.join("g", channel, 0.0)
    router.box("b").add_waiter("one")
    router.flush(spare={"c"})
    assert router.groups.memberships() == 0
    assert set(router.boxes) == {"b", "c"}
    assert len(router.box("c").messages or ()) == CAPACITY
    assert router.send(router.box("b"), (EXPIRY, b"x"), 0.0) == "one"


# --- the model


class RouterMachine(RuleBasedStateMachine):
    """Receivers come, are woken, take or give up; messages come and expire: each is taken, expired or dropped once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.router = make_router()
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
        self.queues[channel].append((entry[0], self.number))
        expected = self.parked[channel].pop(0) if self.parked[channel] else None
        assert woken == expected
        if expected is not None:
            self.woken[channel].append(expected)

    @rule(channel=st.sampled_from(CHANNELS))
    def send(self, channel: str) -> None:
        entry = self._entry()
        full = len(self._fresh(channel)) >= CAPACITY
        outcome = self.router.send(self.router.box(channel), entry, self.now)
        assert (outcome is FULL) == full
        if not full:
            self._delivered(channel, entry, outcome)

    @rule(group=st.sampled_from(GROUPS))
    def group_send(self, group: str) -> None:
        entry, effects = self._entry(), Effects()
        members = [channel for channel in CHANNELS if (group, channel) in self.members]
        self.router.send_group(group, entry, self.now, effects)
        wakes = list(effects.wakes)
        for channel in members:
            if len(self.queues[channel]) < CAPACITY:
                woken = self.parked[channel][0] if self.parked[channel] else None
                if woken is not None:
                    assert woken in wakes
                    wakes.remove(woken)
                self._delivered(channel, entry, woken)
        assert wakes == []

    @rule(group=st.sampled_from(GROUPS), channel=st.sampled_from(CHANNELS))
    def join(self, group: str, channel: str) -> None:
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

    def _received(self, channel: str, take: Callable[[Mailbox, float], bytes | None]) -> None:
        fresh = self._fresh(channel)
        box = self.router.box(channel)
        body = take(box, self.now)
        assert body == (b"%d" % fresh.pop(0)[1] if fresh else None)
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
            held = [int(body) for _, body in (box.messages or ())] if box else []
            assert held == [number for _, number in self.queues[channel]]
            assert len(held) <= CAPACITY
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


TestRouterMachine = RouterMachine.TestCase
TestRouterMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
