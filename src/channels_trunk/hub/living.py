"""The hubs of this process that have a thread: they are closed at its end, and stand still while it is forked."""

import atexit
import os
import sys
import weakref
from typing import TYPE_CHECKING

from channels_trunk import aside

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["all_living", "began", "bury", "ended"]

_CLOSE_WITHIN = 2.0

_alive: "weakref.WeakSet[Lifecycle]" = weakref.WeakSet()
# The hubs of the parent process, in a child: never freed, because freeing them would close what the parent uses.
_graveyard: list["Lifecycle"] = []
_finalized_in = 0  # the process that multiprocessing was told of


def began(hub: "Lifecycle") -> None:
    """It has a thread from now on."""
    global _finalized_in
    _alive.add(hub)
    if _finalized_in != os.getpid():
        _finalized_in = os.getpid()
        # What multiprocessing has forked ends without atexit, and began without the finalizers of its parent.
        if (multiprocessing := sys.modules.get("multiprocessing.util")) is not None:
            multiprocessing.Finalize(None, _close_all, exitpriority=0)


def ended(hub: "Lifecycle") -> None:
    """It has none any more."""
    _alive.discard(hub)


def bury(hub: "Lifecycle") -> None:
    """This is the child of a fork, and the hub is the parent's."""
    _alive.discard(hub)
    _graveyard.append(hub)


def all_living() -> list["Lifecycle"]:
    """All that have a thread, also those whose layer nobody holds any more, and which are being closed."""
    return list(_alive)


def _close_all() -> None:
    # What a signal handler has sent and then ended the process, say.
    aside.sends.drained(_CLOSE_WITHIN)
    with aside.Within():
        for hub in all_living():
            hub.stop()
        for hub in all_living():
            hub.close_blocking(_CLOSE_WITHIN)
    aside.records.drained(_CLOSE_WITHIN)


atexit.register(_close_all)
