"""The reference says what is right, step by step."""

import itertools
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.testing.model import Difference
from channels_trunk.testing.model.reference import Entry, Reference
from channels_trunk.testing.model.steps import GAP

NUMBERS = itertools.count(1)


@pytest.fixture
def model() -> Reference:
    return Reference(3, small=2)


def sent(model: Reference, node: int, channel: str, *, taken: bool | None = True) -> int:
    number = next(NUMBERS)
    model.send(node, channel, number, taken=taken)
    return number


def sent_to_group(model: Reference, node: int, group: str = "g") -> int:
    number = next(NUMBERS)
    model.group_send(node, group, number)
    return number


def test_message_comes_once_and_to_its_channel(model: Reference) -> None:
    number = sent(model, 0, "1a")
    with pytest.raises(Difference, match="not for it"):
        model.received(2, "2a", number)
    model.received(1, "1a", number)
    with pytest.raises(Difference, match="second time"):
        model.received(1, "1a", number)
    assert not model.is_sure("1a")


def test_order_is_that_of_each_sender(model: Reference) -> None:
    first, second, others = sent(model, 0, "1a"), sent(model, 0, "1a"), sent(model, 2, "1a")
    model.received(1, "1a", others)
    with pytest.raises(Difference, match="before"):
        model.received(1, "1a", second)
    model.received(1, "1a", first)
    model.received(1, "1a", second)


def test_several_readers_of_a_normal_channel_have_no_order(model: Reference) -> None:
    numbers = [sent(model, 0, "jobs") for _ in range(3)]
    model.received(0, "jobs", numbers[0])
    model.received(1, "jobs", numbers[2])
    model.received(0, "jobs", numbers[1])


def test_capacity_is_exact_at_home_and_a_window_elsewhere(model: Reference) -> None:
    sent(model, 1, "1b"), sent(model, 1, "1b")
    with pytest.raises(Difference, match="though it was full"):
        sent(model, 1, "1b")
    sent(model, 0, "1b"), sent(model, 0, "1b")
    with pytest.raises(Difference, match="though it was full"):
        sent(model, 0, "1b")
    sent(model, 2, "1b", taken=False)


def test_full_channel_must_be_full(model: Reference) -> None:
    with pytest.raises(Difference, match="told for good"):
        sent(model, 0, "small", taken=False)
    sent(model, 0, "small"), sent(model, 1, "small")
    sent(model, 2, "small", taken=False)
    with pytest.raises(Difference, match="though it was full"):
        sent(model, 2, "small")


def test_message_that_nobody_tells_of_may_be_refused_by_a_window(model: Reference) -> None:
    sent(model, 0, "1b", taken=None)
    assert not model.is_sure("1b")
    sent(model, 1, "1b", taken=None)
    assert model.is_sure("1b")


def test_joining_channel_may_get_what_is_on_its_way_and_no_more(model: Reference) -> None:
    old = sent_to_group(model, 0)
    model.received(1, "1a", sent(model, 0, "1a"))
    young = sent_to_group(model, 0)
    model.add(1, "g", "1b")
    assert not model.is_sure("1b")
    with pytest.raises(Difference, match="not for it"):
        model.received(1, "1b", old)
    model.received(1, "1b", young)


def test_leaving_channel_need_not_get_what_is_on_its_way(model: Reference) -> None:
    model.add(1, "g", "1a")
    sent_to_group(model, 0)
    model.discard(1, "g", "1a")
    assert not model.is_sure("1a")
    model.add(1, "g", "1a")
    sent_to_group(model, 1)
    model.discard(1, "g", "1a")
    assert model.is_sure("1a")  # what it sent itself was there at once


def test_normal_channel_has_left_when_the_call_returns(model: Reference) -> None:
    model.add(0, "g", "jobs")
    number = sent_to_group(model, 1)
    model.discard(2, "g", "jobs")
    model.received(0, "jobs", number)
    late = sent_to_group(model, 1)
    with pytest.raises(Difference, match="not for it"):
        model.received(0, "jobs", late)


def test_fence_settles_what_may_come(model: Reference) -> None:
    late = sent_to_group(model, 0)
    model.add(1, "g", "1a")
    number = next(NUMBERS)
    model.put("1a", Entry(number, model.use(0)))
    model.received(1, "1a", number)
    model.fenced("1a", [0])
    with pytest.raises(Difference, match="not for it"):
        model.received(1, "1a", late)


def test_flush_and_close_and_expiry_empty(model: Reference) -> None:
    for empty in (partial(model.flush, 2), partial(model.close, 1), model.expired):
        model.add(1, "g", "1a")
        number = sent_to_group(model, 0)
        empty()
        with pytest.raises(Difference, match="not for it"):
            model.received(1, "1a", number)
        sent_to_group(model, 1)
        assert not model.is_sure("1a")  # and it has left


def test_waiting_receive_may_have_been_before_the_flush(model: Reference) -> None:
    model.listen(1, "1a")
    number = sent(model, 0, "1a")
    model.flush(2)
    model.received(1, "1a", number)


def test_what_is_sent_to_a_closed_node_is_dropped(model: Reference) -> None:
    model.close(1)
    sent(model, 0, "1a")
    assert not model.is_sure("1a")
    model.use(1)
    sent(model, 0, "1a")
    assert model.is_sure("1a")


def test_killed_node_takes_its_own_along_and_perhaps_jobs(model: Reference) -> None:
    own, job = sent(model, 0, "1a"), sent(model, 0, "jobs")
    model.listen(1, "jobs")
    model.add(0, "g", "jobs")
    model.replaced(1, killed=True)
    with pytest.raises(Difference, match="not for it"):
        model.received(1, "1a", own)
    assert not model.is_sure("jobs")
    model.received(0, "jobs", job)
    sent_to_group(model, 1)
    assert model.is_sure("jobs")


def test_lost_engine_is_told_of_by_a_gap(model: Reference) -> None:
    model.add(1, "g", "1a")
    model.add(0, "g", "jobs")
    sent(model, 0, "jobs")
    here = sent(model, 1, "1a")
    sent_to_group(model, 0)
    model.lost()
    assert not model.is_sure("jobs")
    model.received(1, "1a", here)
    model.received(1, "1a", GAP)
    model.received(1, "1a", GAP)
    assert not model.is_sure("1a")
    sent_to_group(model, 0)
    assert model.is_sure("1a")
    assert not model.is_sure("jobs")


def test_a_group_message_from_elsewhere_may_find_room_when_it_comes(model: Reference) -> None:
    model.add(0, "g", "1b")
    held = [sent_to_group(model, 1) for _ in range(2)]
    late, dropped = sent_to_group(model, 0), sent_to_group(model, 1)
    for number in held:
        model.received(1, "1b", number)
    assert not model.is_sure("1b")
    model.received(1, "1b", late)
    with pytest.raises(Difference, match="not for it"):
        model.received(1, "1b", dropped)


def test_of_two_gap_events_the_one_that_has_to_come_has_come(model: Reference) -> None:
    model.add(1, "g", "1a")
    model.lost()
    model.listen(1, "1a")
    model.flush(0)
    model.add(0, "g", "1a")
    model.lost()
    model.received(1, "1a", GAP)
    assert not model.is_sure("1a")


def test_gap_is_told_only_where_something_was_lost(model: Reference) -> None:
    with pytest.raises(Difference, match="not for it"):
        model.received(2, "2a", GAP)
    model.lost(mail=False, told=False, members=False)
    model.received(2, "2a", GAP)


def test_what_one_table_takes_along_is_lost_and_no_more(model: Reference) -> None:
    model.add(1, "g", "1a")
    model.add(0, "g", "jobs")
    sent_to_group(model, 0)
    model.lost(mail=False, told=False, members=False)
    assert model.is_sure("1a")
    assert not model.is_sure("jobs")
    sent_to_group(model, 0)
    assert model.is_sure("jobs")
    model.lost(mail=False, told=False, jobs=False)
    assert model.is_sure("jobs")
    late = sent_to_group(model, 0)
    assert late not in [entry.number for entry in model.entries["jobs"]]
    model.lost(jobs=False, members=False)
    assert [entry.number for entry in model.entries["1a"] if entry.sure] == [GAP]


def test_restored_jobs_may_come_again_and_memberships_are_those_of_the_copy(model: Reference) -> None:
    model.add(0, "g", "jobs")
    first = sent_to_group(model, 1)
    model.copied()
    model.received(0, "jobs", first)
    model.discard(0, "g", "jobs")
    model.add(0, "h", "jobs")
    later = sent(model, 1, "jobs")
    model.lost()
    model.restored()
    model.received(2, "jobs", first)
    with pytest.raises(Difference, match="not for it"):
        model.received(2, "jobs", later)
    sent_to_group(model, 1, "h")
    assert not model.is_sure("jobs")
    sent_to_group(model, 1, "g")
    assert model.is_sure("jobs")


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["send", "group", "add", "discard"])), max_size=30))
def test_a_layer_that_does_all_at_once_is_right(steps: list[tuple[int, str]]) -> None:
    """What arrives in the moment in which it is sent never differs."""
    model, member, arrived = Reference(3, small=2), False, []
    for node, kind in steps:
        if kind in ("add", "discard"):
            member = kind == "add"
            (model.add if member else model.discard)(node, "g", "1a")
            continue
        number = sent(model, node, "1a") if kind == "send" else sent_to_group(model, node)
        arrived += [number] if member or kind == "send" else []
    for number in arrived:
        model.received(1, "1a", number)
    assert not model.is_sure("1a")
