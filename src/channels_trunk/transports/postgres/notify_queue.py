"""How full the server's queue of notifications is: full, it refuses every NOTIFY of every database on the server."""

__all__ = ["REMEDY", "USAGE", "fullness"]

USAGE = "SELECT pg_notification_queue_usage()"
REMEDY = (
    "End the session that listens and stays in a transaction: SELECT pid, state, xact_start FROM pg_stat_activity "
    "ORDER BY xact_start shows the oldest transactions of all databases"
)
# In steps, so that it is said anew when it has grown, and not each time.
_STEPS = (10, 25, 50, 75, 90)


def fullness(usage: float) -> str:
    """What to say of so great a part that is in use; nothing if it is small."""
    step = max((step for step in _STEPS if usage * 100 >= step), default=0)
    if not step:
        return ""
    return (
        f"more than {step} % of the server's queue of notifications is in use, as a session that listens does not read "
        f"them; when it is full no message is taken"
    )
