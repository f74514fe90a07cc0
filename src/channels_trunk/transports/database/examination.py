"""A look at the tables from outside, by the caller's own connection. Blocks."""

from django.apps import apps
from django.db import DatabaseError
from django.db.models import Count

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.stats import Survey

from .names import plain_name, stored_name

__all__ = ["survey"]


def survey(alias: str, prefix: str) -> Survey:
    """What the tables hold; raises TransportUnavailable. How large they are, each engine would say in its own way."""
    queue, log = (apps.get_model("channels_trunk", name) for name in ("QueuedMessage", "LogRow"))
    try:
        queued = queue.objects.using(alias).filter(prefix=stored_name(prefix)).order_by()
        rows = list(queued.values_list("channel").annotate(Count("id")))
        log_rows = log.objects.using(alias).count()
    except DatabaseError as error:
        raise TransportUnavailable(f"the database {alias!r}: {' '.join(str(error).split())}") from None
    return Survey(waiting={plain_name(channel): count for channel, count in rows}, log_rows=log_rows, size_bytes=None)
