"""How a hub and its engine are doing."""

import threading
from collections.abc import Callable

from channels_trunk.health import Health, State
from channels_trunk.names import printable

__all__ = ["Condition"]


class Condition:
    """Any thread may ask and tell; what is asked on hot paths are plain attributes."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.is_open = False  # whether the transport is open now
        self.has_joined = False  # whether the node has a place in the engine, which it keeps while the engine is away
        self.is_idle = True  # whether start() has to be called before anything can go through the transport
        # Reentrant: the collector may drop a layer, and so stop its hub, while this thread is in here.
        self._life = threading.RLock()  # held by whoever changes any of these
        self._monotonic = monotonic
        self._health = Health(state=State.CLOSED, since_seconds=0.0)
        self._state_since = monotonic()
        self._notes: dict[str, str] = {}  # guarded by _life; by what they are about

    def note(self, about: str, text: str) -> bool:
        """Say this in health() while there is nothing worse to say; "": no more. Whether it was not said already."""
        with self._life:
            is_new = self._notes.get(about, "") != text
            self._notes[about] = text
            return is_new

    def set_state(self, state: State, detail: str) -> None:
        """Note how the transport is."""
        with self._life:
            self.is_open = state is State.OK
            if state is not self._health.state:
                self._state_since = self._monotonic()
            self._health = Health(state=state, since_seconds=0.0, detail=detail)

    def note_loss(self, error: BaseException) -> bool:
        """The transport says that the engine is away; False if that is of no concern any more."""
        with self._life:
            if self.is_idle:
                return False
            self.set_state(State.AWAY, str(error))
            return True

    def note_stall(self, reason: str) -> bool:
        """The engine takes nothing at the moment, though it is there; False if it is not there."""
        with self._life:
            if not self.is_open:
                return False
            self.set_state(State.OK, reason)
            return True

    @property
    def is_away(self) -> bool:
        """Whether the connection was lost and there will be another."""
        return self._health.state is State.AWAY

    @property
    def stall(self) -> str:
        """Why the engine, which is there, takes nothing at the moment, or nothing."""
        return self._health.detail if self.is_open else ""

    def set_closing(self, *, lost: bool) -> None:
        """Nothing goes through the transport any more."""
        if not lost:
            self.set_state(State.CLOSED, "")
        elif self.is_open:
            self.set_state(State.AWAY, "the connection was lost")

    def health(self) -> Health:
        """A snapshot."""
        with self._life:
            since = self._monotonic() - self._state_since
            detail = self._health.detail
            if self.is_open and not detail:
                detail = "; ".join(filter(None, self._notes.values()))
            return Health(state=self._health.state, since_seconds=since, detail=printable(detail))
