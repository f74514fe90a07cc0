"""What the transport reports, and what the hub makes of it. Every method may be called in any thread."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from channels_trunk.envelope import Envelope
from channels_trunk.router import Effects

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["HubSink"]

# What a busy machine may take to answer is no difference. Seconds.
_CLOCKS_AGREE = 2.0


class HubSink:
    """The Sink of one hub; see `transports.base.Sink`."""

    def __init__(self, hub: "Lifecycle") -> None:
        self._hub = hub

    def received(self, envelopes: Sequence[Envelope]) -> None:
        """Deliver."""
        self._hub.reader.push(envelopes)

    def available(self, channels: Sequence[str]) -> None:
        """Claim, if receivers wait."""
        if not self._hub.publisher.hint(channels):
            self._hub.claims.available(channels)

    def gap(self, reason: str) -> None:
        """Count it, say it, and tell the consumers that want to know."""
        hub = self._hub
        hub.counters.gaps += 1
        hub.log.warning("gap", "messages for this process may have been lost: %s", reason)
        body = hub.options.gap_body
        if body is None:
            return
        effects = Effects()
        now = hub.clock.monotonic()
        with hub.lock:
            hub.router.tell_members((now + hub.options.expiry, body), now, effects)
        hub.wake(effects.wakes)

    def lost(self, error: BaseException) -> None:
        """Open it again."""
        if self._hub.note_loss(error):
            self._hub.log.warning("lost", "the connection to the engine was lost: %s", error)
            self._hub.on_io(self._hub.lose_here)

    def skipped(self, error: Exception) -> None:
        """Count it and say it."""
        self._hub.counters.skipped += 1
        self._hub.log.warning("skipped", "a frame was skipped: %s", error)

    def dropped(self, channel: str) -> None:
        """Count it and say it."""
        self._hub.router.counters.dropped_overflow += 1
        self._hub.log.warning("full", "channel %s is full: a message to a group was dropped", channel)

    def engine_time(self, now: float) -> None:
        """Set the wall clock by it, and say it where this machine's is far off."""
        hub = self._hub
        with hub.lock:
            clock = hub.wall_clock
            behind = now - clock()  # what it was set by the last time counts
            if abs(behind) < _CLOCKS_AGREE:
                return
            clock.ahead += behind
            hub.publisher.put_off(behind)
        if abs(clock.ahead) < _CLOCKS_AGREE:
            hub.note("clock", "")
            return  # it was set right
        word = "behind" if clock.ahead > 0 else "ahead of"
        text = f"this machine's clock is {abs(clock.ahead):.1f} s {word} the engine's, by which messages expire"
        hub.note("clock", text)
        hub.log.warning("clock", "%s", text)

    def maintain_soon(self) -> None:
        """Wake the supervisor."""
        self._hub.on_io(self._hub.maintain_here)

    def stalled(self, reason: str) -> None:
        """Say it in health(), and so to senders whose time is over."""
        if self._hub.note_stall(reason) and reason:
            self._hub.log.warning("stalled", "the engine takes no messages: %s", reason)

    def hampered(self, reason: str) -> None:
        """Say it in health(), and each reason once in the log."""
        if self._hub.note("hampered", reason) and reason:
            self._hub.log.warning("hampered", "%s", reason)
