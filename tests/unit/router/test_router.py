"""Mailboxes, groups and the router, by example, with time as an argument."""

from collections import deque

import pytest

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.router import FULL, Effects, Mailbox, Router
from channels_trunk.router.shared import packed
from tests.unit.router.small import CAPACITY, CHANNELS, EXPIRY, GROUP_EXPIRY, make_router


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


@pytest.mark.parametrize("was_woken", [False, True])
def test_fresh_message_comes_in_place_of_the_expired_one_before_it(*, was_woken: bool) -> None:
    router = make_router()
    box = router.box("a")
    if was_woken:
        box.add_waiter("waiter")
    woken = [router.send(box, (expires, body), 0.0) for expires, body in ((10.0, b"old"), (20.0, b"new"))]
    assert woken == ["waiter" if was_woken else None, None]
    assert (router.come if was_woken else router.take)(box, 10.0) == b"new"
    assert router.take(box, 10.0) is None


def test_channel_whose_message_expires_leaves_its_groups() -> None:
    router = make_router()
    router.join("g", "a", 0.0)
    router.join("h", "a", 0.0)
    router.join("g", "b", 0.0)
    fill(router, "a", expires=10.0, count=1)
    router.send_group("g", [(20.0, b"x")], 10.0, Effects())
    assert "h" not in router.groups
    assert router.groups.memberships() == 1
    assert not router.box("a").messages
    body = router.take(router.box("b"), 10.0)
    assert body is not None
    assert packed(body) == b"x"


def test_messages_to_a_group_that_come_together_wake_each_member_once() -> None:
    router = make_router(capacity=100)
    for channel in CHANNELS:
        router.join("g", channel, 0.0)
        router.box(channel).add_waiter(f"at {channel}")
    effects = Effects()
    backlog = deque(Envelope(Kind.GROUP, "g", 2e9, b"%d" % number) for number in range(30))
    router.arrive(backlog, now=0.0, wall=1e9, effects=effects, control=no_control)
    assert not backlog
    assert effects.wakes == ["at a", "at b", "at c"]
    assert router.counters.delivered == 90
    for channel in CHANNELS:
        box = router.box(channel)
        first = router.come(box, 0.0)
        taken = [first, *(router.take(box, 0.0) for _ in range(29))]
        assert [body and packed(body) for body in taken] == [b"%d" % number for number in range(30)]


def test_what_comes_for_a_group_keeps_its_place_among_the_others() -> None:
    router = make_router(capacity=100)
    for group in ("g", "h"):
        router.join(group, "a", 0.0)
    router.join("g", "b", 0.0)
    arrive(
        router,
        *(Envelope(Kind.GROUP, "g", 2e9, body) for body in (b"0", b"1")),
        mailbox("a", b"2"),
        Envelope(Kind.GROUP, "g", 1e9, b"late"),
        *(Envelope(Kind.GROUP, group, 2e9, b"%d" % number) for number, group in enumerate("ghgg", start=3)),
    )
    held = [packed(body) for _, body in router.box("a").messages or ()]
    assert held == [b"%d" % number for number in range(7)]
    assert router.counters.dropped_expired == 1


@pytest.mark.parametrize("capacity", [1, 2, 3, 4, 10, 30])
def test_burst_to_a_group_drops_nothing_in_front_of_a_receiver_that_keeps_up(capacity: int) -> None:
    router = make_router(capacity=capacity)
    for channel in CHANNELS:
        router.join("g", channel, 0.0)
        router.box(channel).add_waiter(f"at {channel}")
    backlog = deque(Envelope(Kind.GROUP, "g", 2e9, b"%d" % number) for number in range(100))
    taken: list[bytes] = []
    while backlog:
        effects = Effects()
        router.arrive(backlog, now=0.0, wall=1e9, effects=effects, control=no_control)
        for waiter in effects.wakes:
            box = router.box(waiter[-1])
            body = router.come(box, 0.0)
            while body is not None:
                taken.append(packed(body))
                body = router.take(box, 0.0)
            box.add_waiter(waiter)
    assert router.counters.dropped_overflow == 0
    assert sorted(taken) == sorted(b"%d" % number for number in range(100) for _ in CHANNELS)


def test_group_goes_on_past_a_full_member() -> None:
    router = make_router()
    for channel in CHANNELS:
        router.join("g", channel, 0.0)
    fill(router, "b")
    effects = Effects()
    router.send_group("g", [(EXPIRY, b"x")], 0.0, effects)
    assert [len(router.box(channel).messages or ()) for channel in CHANNELS] == [1, CAPACITY, 1]
    assert router.counters.dropped_overflow == 1
    assert effects.overflowed == "b"


@pytest.mark.parametrize(("group_expiry", "left"), [(GROUP_EXPIRY, 0), (0.0, 1)])
def test_membership_ends_after_group_expiry(group_expiry: float, left: int) -> None:
    router = make_router(group_expiry=group_expiry)
    router.join("g", "a", 0.0)
    router.sweep(GROUP_EXPIRY - 1)
    assert router.groups.memberships() == 1
    router.send_group("g", [(1e6, b"x")], GROUP_EXPIRY, Effects())
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


@pytest.mark.parametrize("is_member", [False, True])
def test_a_channel_whose_message_expired_can_join_again(*, is_member: bool) -> None:
    """Nobody has looked since: what expired before ends no membership that is made later."""
    router = make_router()
    box = fill(router, "a", expires=10.0, count=1)
    if is_member:
        router.join("h", "a", 0.0)
    router.join("g", "a", 10.0)
    router.send_group("g", [(20.0, b"x")], 10.0, Effects())
    router.send_group("h", [(20.0, b"y")], 10.0, Effects())
    assert [router.take(box, 10.0) for _ in range(2)] == [b"x", None]
