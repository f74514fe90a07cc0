"""What goes back to the front of a channel as one message."""

from channels_trunk.transports.base import Claimed
from channels_trunk.transports.rabbitmq.giving_back import _MOST_BYTES, blocks_of


def claimed(channel: str, number: int, size: int = 1) -> Claimed:
    return Claimed(channel, float(number), b"x" * size)


def test_what_is_of_one_channel_goes_together_in_its_order() -> None:
    messages = [claimed("a", 1), claimed("b", 2), claimed("a", 3)]
    assert blocks_of(messages) == [[messages[0], messages[2]], [messages[1]]]
    assert blocks_of([]) == []


def test_no_message_is_made_that_a_broker_may_refuse_for_its_size() -> None:
    messages = [claimed("a", number, _MOST_BYTES // 2) for number in range(3)] + [claimed("a", 3, 2 * _MOST_BYTES)]
    assert blocks_of(messages) == [messages[:2], messages[2:3], messages[3:]]
