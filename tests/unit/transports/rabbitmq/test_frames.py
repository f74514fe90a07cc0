"""Frames out of bytes that come as they like."""

import pytest

from channels_trunk.transports.rabbitmq.frames import FRAME_MAX, Frame, FrameBuffer
from channels_trunk.transports.rabbitmq.wire import BODY, HEARTBEAT, METHOD, Malformed, frame


def fed(buffer: FrameBuffer, data: bytes) -> list[Frame]:
    room = buffer.room()
    room[: len(data)] = data
    return buffer.take(len(data))


@pytest.mark.parametrize("step", [1, 7, 8, 9, 1000])
def test_frames_come_in_pieces_of_any_size(step: int) -> None:
    sent = [Frame(METHOD, 1, b"method"), Frame(HEARTBEAT, 0, b""), Frame(BODY, 300, b"\xce" * 50)]
    data = b"".join(frame(*each) for each in sent)
    buffer, found = FrameBuffer(), list[Frame]()
    for start in range(0, len(data), step):
        found += fed(buffer, data[start : start + step])
    assert found == sent


def test_there_is_room_for_the_longest_frame_behind_any_other() -> None:
    longest = frame(BODY, 1, b"x" * FRAME_MAX)
    buffer = FrameBuffer()
    assert fed(buffer, longest[:-1]) == []
    assert len(fed(buffer, longest[-1:] + frame(METHOD, 1, b"y"))) == 2
    assert len(buffer.room()) > len(longest)


@pytest.mark.parametrize(
    "junk",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", id="another protocol"),
        pytest.param(frame(METHOD, 1, b"x")[:-1] + b"?..", id="no end"),
        pytest.param(frame(METHOD, 1, b"x" * (FRAME_MAX + 1))[:100], id="too long"),
    ],
)
def test_what_is_not_amqp(junk: bytes) -> None:
    with pytest.raises(Malformed, match="not AMQP"):
        fed(FrameBuffer(), junk)
