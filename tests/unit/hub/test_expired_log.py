"""Messages that nobody took in time: counted at once, and said in the log by the next sweep."""

import time

import pytest

from channels_trunk.layers import MemoryChannelLayer
from channels_trunk.testing import eventually_blocking


def swept(layer: MemoryChannelLayer, dropped: int) -> bool:
    layer._hub.on_io(layer._hub.sweep)
    return layer.stats().dropped_expired_total == dropped


def test_expired_messages_are_said_once_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    layer = MemoryChannelLayer(prefix="expired-log", expiry=0.05)
    try:
        channel = layer.sync.new_channel()
        for _ in range(3):
            layer.sync.send(channel, {"type": "swordfish"})
        late = time.monotonic() + 0.06
        eventually_blocking(lambda: time.monotonic() > late, within=5)
        assert caplog.messages == []
        eventually_blocking(lambda: swept(layer, 3), within=5)
        first = (
            f"a message for {channel} expired: nobody took it within 0.05 s (and 2 times more since it was last said)"
        )
        eventually_blocking(lambda: caplog.messages == [first], within=5)
        # What expires a moment later is counted, and said with the next, as all that QuietLog says.
        layer.sync.send(channel, {"type": "swordfish"})
        eventually_blocking(lambda: swept(layer, 4), within=5)
        assert caplog.messages == [first]
    finally:
        layer.sync.close()


def test_a_receiver_that_drops_what_is_late_has_it_said_too(caplog: pytest.LogCaptureFixture) -> None:
    layer = MemoryChannelLayer(prefix="expired-log-receiver", expiry=0.05)
    try:
        channel = layer.sync.new_channel()
        layer.sync.send(channel, {"type": "x"})
        late = time.monotonic() + 0.06
        eventually_blocking(lambda: time.monotonic() > late, within=5)
        with pytest.raises(TimeoutError):
            layer.sync.receive(channel, timeout=0.01)
        assert layer.stats().dropped_expired_total == 1
        layer._hub.on_io(layer._hub.sweep)
        eventually_blocking(lambda: len(caplog.messages) == 1, within=5)
        assert caplog.messages == [f"a message for {channel} expired: nobody took it within 0.05 s"]
    finally:
        layer.sync.close()
