"""What health() says, and what counts as an engine that takes nothing."""

from channels_trunk.health import State
from channels_trunk.hub.condition import Condition


def test_a_note_is_no_stall() -> None:
    condition = Condition(lambda: 0.0)
    condition.set_state(State.OK, "")
    assert condition.note("clock", "the clock is wrong")
    assert condition.note("hampered", "this process polls")
    assert not condition.note("hampered", "this process polls")
    assert condition.stall == ""
    assert condition.health().detail == "the clock is wrong; this process polls"


def test_a_note_is_said_while_there_is_nothing_worse_to_say() -> None:
    condition = Condition(lambda: 0.0)
    condition.note("hampered", "this process polls")
    assert condition.health().detail == ""
    condition.set_state(State.OK, "")
    assert condition.note_stall("the disk is full")
    assert condition.stall == condition.health().detail == "the disk is full"
    condition.note_stall("")
    assert condition.health().detail == "this process polls"
    condition.note("hampered", "")
    assert condition.health().detail == ""
