"""Layers that give up soon, for as long as a test wants to see that."""

from collections.abc import Iterator
from contextlib import contextmanager

from channels_trunk.layers.base import TrunkChannelLayer

__all__ = ["impatient"]


@contextmanager
def impatient(layer: TrunkChannelLayer, seconds: float) -> Iterator[None]:
    """Within the block `send_timeout` is so short; what a test does before and after has the layer's usual time.

    A connection that is made, or a message that is to arrive, may need longer on a busy machine.
    """
    hub = layer._hub
    usual = hub.options
    hub.options = usual._replace(send_timeout=seconds)
    try:
        yield
    finally:
        hub.options = usual
