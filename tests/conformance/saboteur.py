"""What all layers that break a rule have."""

import itertools
from typing import Any

from channels_trunk.layers.base import TrunkChannelLayer

Message = dict[str, Any]
held: list[Any] = []


class Base(TrunkChannelLayer):
    """What a saboteur needs to know, whichever layer it is mixed with."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.numbers = itertools.count(1)
        self.own: set[str] = set()

    async def new_channel(self, prefix: str = "specific") -> str:
        name = await super().new_channel(prefix)
        self.own.add(name)
        return name
