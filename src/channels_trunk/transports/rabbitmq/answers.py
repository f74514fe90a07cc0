"""What a channel has asked the broker, and who waits for the answers."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .errors import AmqpError
from .wire import Method

__all__ = ["Answered", "Answers"]

Answered = Callable[[Any, AmqpError | None], None]
"""To be given the answer, or why there is none; in any thread."""


class Answers:
    """Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below
        self._waiting: deque[tuple[int, Answered]] = deque()  # with what was asked
        self._is_closed = False

    def expect(self, number: int, answered: Answered) -> bool:
        """This method is sent next; False if the channel is closed."""
        with self._lock:
            if self._is_closed:
                return False
            self._waiting.append((number, answered))
            return True

    def take(self, index: int) -> Answered | None:
        """Whoever waits for the answer of this number."""
        # Not simply the first: RabbitMQ answers a basic.cancel when the queue has, and may before that answer what was
        # asked after it. What it does, it does in the order in which it was asked.
        number = Method.BASIC_GET if index == Method.BASIC_GET_EMPTY else index - 1
        with self._lock:
            for place, (asked, answered) in enumerate(self._waiting):
                if asked == number:
                    del self._waiting[place]
                    return answered
        return None

    def close(self) -> list[Answered]:
        """The channel is closed: return those who will not be answered any more, to tell them."""
        with self._lock:
            self._is_closed = True
            waiting = [answered for _, answered in self._waiting]
            self._waiting.clear()
            return waiting
