"""When to let messages pile up for a moment: what a claim costs does not grow with them, and each is a wake. Pure."""

__all__ = ["REST", "Rests"]

REST = 0.001
"""So many seconds after a claim the next one comes, in a channel that is busy."""
# It is where so many messages were claimed within the window, and for as long as so many are there after a rest. Who
# waits for an answer before he sends the next job is not to be held up for nothing.
_MANY, _WINDOW = 6, 0.01
_ENOUGH = 2


class Rests:
    """Of one channel; `now` is seconds of the loop's clock."""

    def __init__(self) -> None:
        self.until = 0.0
        """Before this nothing is to be claimed."""
        self._since = 0.0
        self._count = 0

    def claimed(self, count: int, *, now: float, more: bool) -> None:
        """So many were claimed, and perhaps more are there already."""
        if now - self._since > _WINDOW:
            self._since, self._count = now, 0
        self._count += count
        is_busy = count >= _ENOUGH if self.until else self._count >= _MANY
        if self.until and not is_busy:
            self._count = 0
        self.until = now + REST if is_busy and not more else 0.0
