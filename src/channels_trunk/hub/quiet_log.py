"""Logging that says a thing at most once per interval, and then how often it happened."""

from collections.abc import Callable

from channels_trunk.aside import logger

__all__ = ["QuietLog"]

_INTERVAL = 10.0


class QuietLog:
    """One for each hub; `now` is its monotonic clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._said: dict[str, tuple[float, int]] = {}  # what to when, and how often it was left unsaid since

    def warning(self, what: str, text: str, *args: object, times: int = 1) -> None:
        """Say `text` of `times` things, unless something of the same kind `what` was said a moment ago."""
        said_at, unsaid = self._said.get(what, (float("-inf"), 0))
        now = self._now()
        if now - said_at < _INTERVAL:
            self._said[what] = (said_at, unsaid + times)
            return
        self._said[what] = (now, 0)
        more = unsaid + times - 1
        if more:
            text += " (and %d times more since it was last said)"
            args = (*args, more)
        logger.warning(text, *args)
