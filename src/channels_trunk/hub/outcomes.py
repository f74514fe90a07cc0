"""What senders are told of their batches."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from channels_trunk.aside import logger
from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.transports.base import TooLarge

from .outbox import Outgoing
from .waiters import Waiter, another, settle

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["LEAST_TIME", "Outcomes", "Refused", "unexpected"]

LEAST_TIME = 1.0
"""What waited for the engine until its time was nearly over still gives it this long to answer. Seconds."""


class Refused(Exception):
    """The channel is full. The layer turns it into channels.exceptions.ChannelFull."""


class Outcomes:
    """Any thread."""

    def __init__(self, hub: "Lifecycle") -> None:
        self._hub = hub
        self._lock = threading.Lock()  # guards the counters, as the turn is given up before the senders are told

    def done(self, batch: list[Outgoing], refused: Sequence[int]) -> None:
        """The engine has this batch, but for some."""
        with self._lock:
            self._hub.counters.sent += len(batch) - len(refused)
            self._hub.counters.batches += 1
        if refused:
            full = set(refused)
            settle(_waiters([entry for index, entry in enumerate(batch) if index in full]), Refused)
            batch = [entry for index, entry in enumerate(batch) if index not in full]
        settle(_waiters(batch))

    def too_large(self, batch: list[Outgoing], error: TooLarge) -> bool:
        """The engine has this batch but for what is too large for it; False if it is to be taken apart for that."""
        indexes = error.indexes or ((0,) if len(batch) == 1 else ())
        if not indexes:
            return False
        with self._lock:
            self._hub.counters.failed += len(indexes)
        for index in indexes:
            text = f"the packed message has {len(batch[index].envelope.body)} bytes; {error}"
            settle(_waiters([batch[index]]), partial(self._hub.options.too_large, text))
        others = [index for index in range(len(batch)) if index not in indexes]
        if others:
            full = [place for place, index in enumerate(others) if index in error.full]
            self.done([batch[index] for index in others], full)
        return True

    def failed(self, batch: list[Outgoing], error: TransportError) -> None:
        """The engine did not take this batch, or nobody can know."""
        with self._lock:
            self._hub.counters.failed += len(batch)
        self._hub.publish_failed(error)
        settle(_waiters(batch), lambda: another(error))

    def cut_off(self, batch: list[Outgoing]) -> None:
        """The connection ended under this batch."""
        self.failed(batch, TransportUnavailable("the connection ended while the message was being sent"))

    def expired(self, late: list[Outgoing]) -> None:
        """The time of these is over, and they were not sent."""
        if late:
            self.failed(late, TransportUnavailable(self._hub.why_unavailable()))

    def hangs(self, call: str, seconds: float) -> TransportUnavailable:
        """Say that the engine is lost, because it does not answer this call; return what to tell whoever waits."""
        if reason := self._hub.stall:
            # It is there and says why: another connection would get no other answer.
            return TransportUnavailable(reason)
        error = TransportUnavailable(f"the engine did not answer {call}() within {seconds:.3g} s")
        self._hub.context.sink.lost(error)
        return error

    @staticmethod
    def dropped(batch: Sequence[Outgoing], error: Callable[[], BaseException]) -> None:
        """Nothing is sent any more, for this reason."""
        settle(_waiters(batch), error)


def unexpected(error: BaseException) -> TransportError:
    """What to tell senders when the transport failed in a way that its contract does not know."""
    logger.error("channels_trunk: the transport failed in a way it should not", exc_info=error)
    wrapped = TransportError(f"the transport failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _waiters(batch: Sequence[Outgoing]) -> list[Waiter]:
    return [entry.waiter for entry in batch if entry.waiter is not None]
