"""What a fork does to layers: the parent's stand still while it is copied, and the child's begin anew."""

import os
import weakref
from typing import TYPE_CHECKING

from channels_trunk.hub import Hub

if TYPE_CHECKING:
    from .base import TrunkChannelLayer

__all__ = ["watch_forks"]

_layers: "weakref.WeakSet[TrunkChannelLayer]" = weakref.WeakSet()


def watch_forks(layer: "TrunkChannelLayer") -> None:
    """Have forks heed this layer, for as long as somebody holds it."""
    _layers.add(layer)


_held: list[Hub] = []  # between the two sides of a fork


def _hold_all_before_fork() -> None:
    _held[:] = [hub for layer in list(_layers) if (hub := layer.__dict__.get("_made")) is not None]
    for hub in _held:
        hub.hold()


def _release_all_in_parent() -> None:
    for hub in _held:
        hub.release()
    _held.clear()


def _renew_all_in_child() -> None:
    _held.clear()
    for layer in list(_layers):
        layer._renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_all_before_fork, after_in_parent=_release_all_in_parent, after_in_child=_renew_all_in_child
    )
