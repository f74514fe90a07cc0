"""Notes say the same in whatever order they are read: some come back, behind others, when who read them was killed."""

from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.transports.rabbitmq.ledger import _GONE, Notes, _Note

NAMES = st.sampled_from(["a", "b"])
TIMES = st.sampled_from([1.0, 2.0, 3.0])
OF_CHANNELS = st.builds(_Note, TIMES, NAMES, st.just(""), st.sampled_from([0.0, _GONE]))


def settled(notes: list[_Note]) -> Notes:
    found = Notes()
    for note in notes:
        found.add(note)
    found.settle()
    return found


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
