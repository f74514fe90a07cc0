"""When messages are let pile up before they are claimed."""

from channels_trunk.transports.rabbitmq.rests import REST, Rests


def claim(rests: Rests, now: float, count: int, *, more: bool = False) -> bool:
    """Whether a rest follows."""
    rests.claimed(count, now=now, more=more)
    return rests.until > now


def test_few_messages_are_claimed_as_they_come() -> None:
    rests = Rests()
    assert not any(claim(rests, number * 0.003, 1) for number in range(100))


def test_where_many_come_there_is_a_rest_for_as_long_as_several_are_found() -> None:
    rests = Rests()
    assert [claim(rests, number * 0.0005, 2) for number in range(3)] == [False, False, True]
    assert rests.until == 2 * 0.0005 + REST
    assert claim(rests, 0.003, 2)
    assert not claim(rests, 0.005, 1)
    assert not claim(rests, 0.006, 2)


def test_nobody_rests_while_there_is_more() -> None:
    rests = Rests()
    assert not claim(rests, 0.0, 64, more=True)
    assert claim(rests, 0.001, 10)
