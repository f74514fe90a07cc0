"""What time it is at a server, by an answer that took a while."""

from .base import NodeContext

__all__ = ["tell_time"]

# An answer that took longer does not tell what time it is at the server. Seconds.
_TELLS_THE_TIME = 1.0


def tell_time(context: NodeContext, now: float, *, asked_at: float) -> None:
    """Tell the hub, if a server's answer can say it; asked at this time of the process's own monotonic clock."""
    took = context.clock.monotonic() - asked_at
    if took < _TELLS_THE_TIME:
        context.sink.engine_time(now + took / 2)
