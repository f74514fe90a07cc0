"""Whether a layer that stays in its process is enough."""

import os
from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning

from .entries import Entry, entries

__all__ = ["check_channel_layer_processes", "check_for_deployment"]

_IN_MEMORY = "channels.layers.InMemoryChannelLayer"  # Channels' own


def check_channel_layer_processes(app_configs: object = None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of a layer in memory if the environment says that there are several processes."""
    count = os.environ.get("WEB_CONCURRENCY", "")  # heeded by gunicorn, uvicorn and hypercorn
    if not count.isdigit() or int(count) < 2:
        return []
    return list(_warn(f"WEB_CONCURRENCY is {count}"))


def check_for_deployment(app_configs: object = None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of a layer in memory (`check --deploy`)."""
    return [] if check_channel_layer_processes() else list(_warn("a deployment usually has several processes"))


def _warn(reason: str) -> Iterator[CheckMessage]:
    for entry in entries():
        if entry.backend == _IN_MEMORY or (entry.is_ours and _stays_in_process(entry)):
            yield _warning(entry, reason)


def _stays_in_process(entry: Entry) -> bool:
    try:
        return entry.layer_class().stays_in_process
    except ImportError:
        return False  # check_channel_layers() says so


def _warning(entry: Entry, reason: str) -> CheckMessage:
    return CheckWarning(
        f"{entry.where}: messages of {entry.backend.rpartition('.')[2]} stay in one process, and {reason}.",
        hint="Use SQLiteChannelLayer or another layer that joins processes; runworker, Celery and commands that send "
        "are processes, too.",
        id="channels_trunk.W004",
    )
