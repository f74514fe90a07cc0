"""A network engine whose answers take their time, or come when a test lets them."""

from typing import Any, cast

from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.testing.starting import StartingLoopbackTransport
from channels_trunk.testing.transports import Hold
from channels_trunk.transports.base import Transport

__all__ = ["SlowLayer", "SlowTransport"]


class SlowTransport(StartingLoopbackTransport):
    """Each way takes 50 ms, so that a test can do something meanwhile."""

    def __init__(self, name: str) -> None:
        super().__init__(name, delay=0.05)
        self._hold = Hold()
        self._hold.release()

    def hold_answers(self) -> None:
        """From now on no answer comes before release_answers(), however long a test takes for what it does."""
        self._hold = Hold()

    def release_answers(self) -> None:
        """Let them come, those that wait included."""
        self._hold.release()

    async def _back(self, line: Any) -> None:
        await self._hold.wait()
        await super()._back(line)


class SlowLayer(TrunkChannelLayer):
    """Callers' threads start what they send, and what they ask for."""

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return SlowTransport(values["prefix"])

    @property
    def transport(self) -> SlowTransport:
        return cast(SlowTransport, self._hub.transport)
