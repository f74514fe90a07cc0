"""The dice: a worker channel's consumer, run by `manage.py runworker dice`."""

import os
import random
import re
from dataclasses import dataclass

from channels.consumer import AsyncConsumer

from rooms.names import RefusedError, room_group

CHANNEL = "dice"
MAX_DICE = 20
MAX_SIDES = 1000

_NOTATION = re.compile(r"(?P<count>[0-9]{0,4})[dD](?P<sides>[0-9]{1,5})(?:\s*(?P<bonus>[+-]\s*[0-9]{1,4}))?")


@dataclass(frozen=True)
class Dice:
    """So many dice of so many sides, and something added to their sum."""

    count: int
    sides: int
    bonus: int = 0

    @classmethod
    def parse(cls, notation: str) -> "Dice":
        """Read `2d6`, `d20` or `3d8+2`; nothing at all is one die of six. Raises `RefusedError`."""
        match = _NOTATION.fullmatch(notation.strip() or "1d6")
        if match is None:
            raise RefusedError("Write dice like 2d6, d20 or 3d8+2.")
        dice = cls(
            count=int(match["count"] or 1),
            sides=int(match["sides"]),
            bonus=int((match["bonus"] or "0").replace(" ", "")),
        )
        if not (1 <= dice.count <= MAX_DICE and 2 <= dice.sides <= MAX_SIDES):
            raise RefusedError(f"1 to {MAX_DICE} dice of 2 to {MAX_SIDES} sides, please.")
        return dice

    def __str__(self) -> str:
        return f"{self.count}d{self.sides}" + (f"{self.bonus:+d}" if self.bonus else "")

    def roll(self) -> list[int]:
        """Throw each die once."""
        return [random.randint(1, self.sides) for _ in range(self.count)]


class DiceWorker(AsyncConsumer):
    """Throws the dice that chat rooms ask for, in a process of its own."""

    async def dice_roll(self, message: dict[str, str]) -> None:
        """Answer the whole room; a mistake is answered to the one socket that made it."""
        try:
            dice = Dice.parse(message["notation"])
        except RefusedError as refusal:
            await self.channel_layer.send(message["reply_to"], {"type": "chat.notice", "text": str(refusal)})
            return
        rolls = dice.roll()
        answer = {
            "type": "chat.rolled",
            "id": message["id"],
            "name": message["name"],
            "dice": str(dice),
            "sides": dice.sides,
            "rolls": rolls,
            "bonus": dice.bonus,
            "total": sum(rolls) + dice.bonus,
            "worker": os.getpid(),
        }
        await self.channel_layer.group_send(room_group(message["room"]), answer)
