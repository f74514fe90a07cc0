"""How long senders wait: a test that means them to wait in vain says for which of its calls."""

from collections.abc import Iterator
from contextlib import contextmanager

from channels_trunk.layers.base import TrunkChannelLayer

__all__ = ["send_timeout"]


@contextmanager
def send_timeout(layer: TrunkChannelLayer, seconds: float) -> Iterator[None]:
    """In this block, and not while the layer is opened, which takes its time on a machine that has much to do."""
    hub = layer._hub
    kept = hub.options
    hub.options = kept._replace(send_timeout=seconds)
    try:
        yield
    finally:
        hub.options = kept
