"""What a fork does to layers: the parent's stand still while it is copied, and the child's begin anew."""

import os
import threading
import weakref
from typing import TYPE_CHECKING

from channels_trunk.aside import Within
from channels_trunk.hub.lifecycle import Lifecycle
from channels_trunk.hub.living import all_living

if TYPE_CHECKING:
    from .base import TrunkChannelLayer

__all__ = ["watch_forks"]

_layers: "weakref.WeakSet[TrunkChannelLayer]" = weakref.WeakSet()


def watch_forks(layer: "TrunkChannelLayer") -> None:
    """Have forks heed this layer, for as long as somebody holds it."""
    _layers.add(layer)


# Held from one side of a fork to the other: two threads may fork at once, and what is held for one must not be given
# free, or forgotten, by the other.
_turn = threading.Lock()
_held: list[Lifecycle] = []  # guarded by _turn


_mark = Within()


def _hold_all_before_fork() -> None:
    _turn.acquire()
    _mark.__enter__()
    _held[:] = all_living()
    for hub in _held:
        hub.hold()


def _release_all_in_parent() -> None:
    try:
        for hub in _held:
            hub.release()
    finally:
        _held.clear()
        _mark.__exit__()
        _turn.release()


def _renew_all_in_child() -> None:
    global _turn
    _mark.__exit__()
    _turn = threading.Lock()
    _held.clear()
    for layer in list(_layers):
        layer._renew_after_fork()
    # Those whose layer nobody holds any more, and which the parent is about to close.
    for hub in all_living():
        hub.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_all_before_fork, after_in_parent=_release_all_in_parent, after_in_child=_renew_all_in_child
    )
