"""A clock that tests move by hand."""

import pytest

from channels_trunk.clock import Clock


class FakeClock:
    """Both clocks of the core. They stand still until `advance`; wall time may also jump, as it does in life."""

    def __init__(self, *, monotonic: float = 1_000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass. Monotonic time never goes back."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        self._monotonic += seconds
        self._wall += seconds

    def set_wall(self, seconds: float) -> None:
        """Somebody set the machine's clock: wall time jumps, monotonic time does not."""
        self._wall = seconds

    def as_clock(self) -> Clock:
        """The form in which the core takes its clocks."""
        return Clock(monotonic=self.monotonic, wall=self.time)


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()
