"""What notes say together, though some come back, behind others, when who read them was killed."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.names import check_channel, check_group
from channels_trunk.transports.rabbitmq.ledger import _GONE, Notes, _decoded, _Note, _shortened

NAMES = st.sampled_from(["a", "b"])
TIMES = st.sampled_from([1.0, 2.0, 3.0])
OF_CHANNELS = st.builds(_Note, TIMES, NAMES, st.just(""), st.sampled_from([0.0, _GONE]))


NOW, REMEMBER = 100.0, 50.0
MEMBER = ("group", "a")


def settled(notes: list[_Note], **how: Any) -> Notes:
    found = Notes()
    for note in notes:
        found.add(note)
    found.settle(NOW, remember=REMEMBER, **how)
    return found


def member(at: float, ends: float) -> _Note:
    return _Note(at, "a", "group", ends)


@given(notes=st.lists(OF_CHANNELS), data=st.data())
def test_the_order_means_nothing(notes: list[_Note], data: st.DataObject) -> None:
    assert settled(data.draw(st.permutations(notes))).channels == settled(notes).channels


@given(notes=st.lists(OF_CHANNELS))
def test_a_channel_is_there_that_was_noted_after_the_time_until_which_notes_hold_no_more(notes: list[_Note]) -> None:
    found = settled(notes).channels
    for name in ("a", "b"):
        noted = [note.at for note in notes if note.channel == name and note.ends != _GONE]
        gone = max((note.at for note in notes if note.channel == name and note.ends == _GONE), default=0.0)
        assert (name in found) is any(at > gone for at in noted)
        assert name not in found or found[name] == max(noted)


def test_a_note_that_cannot_be_read_is_none() -> None:
    assert settled([_Note(0.0, ""), _Note(5.0, "")]).channels == {}


@given(at=st.lists(st.floats(60, 200), min_size=1), ended=st.booleans())
def test_the_latest_note_of_a_membership_holds_whatever_time_it_was_where_it_was_written(
    at: list[float], ended: bool
) -> None:
    notes = [member(time, ends=500.0 if ended else 0.0) for time in at] + [member(60.0, ends=0.0 if ended else 500.0)]
    assert settled(notes).bindings() == {MEMBER: not ended}


@given(
    old=st.lists(st.booleans()),
    meanwhile=st.lists(st.booleans()),
    later=st.lists(st.booleans()),
    was_killed=st.booleans(),
)
def test_notes_that_are_written_while_others_are_shortened_hold_more(
    old: list[bool], meanwhile: list[bool], later: list[bool], was_killed: bool
) -> None:
    def of(words: list[bool]) -> list[_Note]:
        return [member(90.0, ends=500.0 if word else 0.0) for word in words]

    short = _shortened(settled(of(old)))
    # What was not acknowledged comes again.
    notes = [*(of(old) if was_killed else ()), *of(meanwhile), *short, *of(later)]
    words = [*old, *meanwhile, *later]
    assert settled(notes).bindings() == ({MEMBER: words[-1]} if words else {})
    assert settled(_shortened(settled(notes))).bindings() == settled(notes).bindings()


def test_a_membership_that_is_over_is_remembered_for_some_time() -> None:
    for notes, how in (
        ([member(10.0, ends=NOW)], {}),
        ([member(10.0, ends=500.0)], {"end_members": True}),
        ([member(NOW - REMEMBER + 1, ends=0.0)], {}),
    ):
        found = settled(notes, **how)
        assert found.bindings() == {MEMBER: False}
        assert not found.members
        assert settled(_shortened(found)).bindings() == {MEMBER: False}
    assert settled([member(NOW - REMEMBER, ends=0.0)]).bindings() == {}


_STRANGE = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=300), st.binary(max_size=5))


@given(st.lists(_STRANGE, max_size=6), st.binary(max_size=30), st.integers(0, 60))
def test_what_is_no_note_says_nothing(fields: list[Any], junk: bytes, cut: int) -> None:
    """Whoever may write to the queue may write anything; names of queues are made of what is read."""
    with contextlib.suppress(UnicodeEncodeError, OverflowError):
        junk = msgspec.msgpack.encode(fields)[:cut] + junk
    for body in (junk, msgspec.msgpack.encode([1.0, "a", "group", 2.0]) + junk):
        note = _decoded(body)
        for name, check in ((note.channel, check_channel), (note.group, check_group)):
            if name:
                check(name)
        settled([note, member(1, 200)], end_members=True)


@pytest.mark.parametrize(
    "fields",
    [
        [1.0, "x" * 300],
        [1.0, "a b"],
        [1.0, "a", "x" * 300, 200.0],
        [float("nan"), "a"],
        [1.0, "a", "group", float("nan")],
        {"at": 1.0},
        "note",
    ],
    ids=str,
)
def test_such_notes_are_left_out(fields: Any) -> None:
    assert _decoded(msgspec.msgpack.encode(fields)) == _Note(0.0, "")
