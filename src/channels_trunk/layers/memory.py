"""The layer inside one process."""

from typing import Any, ClassVar

from channels_trunk.stats import Survey
from channels_trunk.transports.base import Transport
from channels_trunk.transports.memory import MemoryTransport, survey

from .base import TrunkChannelLayer

__all__ = ["MemoryChannelLayer"]


class MemoryChannelLayer(TrunkChannelLayer):
    """A channel layer inside one process: for tests, and for what never needs a second process.

    Layers of one process with the same `prefix` are one layer. It may be used from many event loops and threads at
    once. Messages do not reach other processes, and after a fork the child begins with an empty layer.
    """

    stays_in_process: ClassVar[bool] = True

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return MemoryTransport(values["prefix"])

    def survey(self) -> Survey:
        """What waits in this process."""
        return survey(self.prefix)
