"""Where a frame was found, and which messages may be there.

Kind, target, expiry and prefix of a message stand in the encrypted part of its frame. What stands beside the frame (a
table, a column, a routing key) can be written by whoever can write to the engine; so what is inside is compared with
it, and a frame that was moved is refused.
"""

from collections.abc import Mapping, Sequence

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import DecodeError
from channels_trunk.names import channel_owner

__all__ = ["ANY", "LOG", "Slot", "check_slot", "check_slots", "moved", "slot_of_channel", "slot_of_node"]

Slot = Mapping[int, str]
"""Of each kind of envelope that may be there, whom it is for: the target, for MAILBOX the node, or ANY."""

ANY = ""
# Plain numbers, as those of envelopes: to find them by the members of an enum takes twice as long.
LOG: Slot = {int(kind): ANY for kind in (Kind.MAILBOX, Kind.GROUP, Kind.CONTROL)}
"""A log that all nodes of a prefix read, each for what concerns it."""


def slot_of_channel(channel: str) -> Slot:
    """Where the messages of a normal channel wait."""
    return {Kind.QUEUE: channel}


def slot_of_node(node: str) -> Slot:
    """What is for one node alone."""
    return {Kind.MAILBOX: node, Kind.CONTROL: node}


def moved() -> DecodeError:
    """What to raise for a frame that was moved."""
    # What is in it is not shown: names may be secret where frames are encrypted.
    return DecodeError("a frame lies where it is not for: it was moved to another channel, group, or process")


def check_slot(slot: Slot, kind: int, target: str) -> None:
    """Raise DecodeError unless an envelope may be in this slot; TypeError if it is for a channel that is none."""
    wanted = slot.get(kind)
    if wanted is None or (wanted and wanted != (channel_owner(target) if kind == Kind.MAILBOX else target)):
        raise moved()


def check_slots(slot: Slot, envelopes: Sequence[Envelope]) -> None:
    """As check_slot(), of all of them."""
    kind, target = -1, ""
    for envelope in envelopes:
        # Most have the target of the one before.
        if envelope.target != target or envelope.kind != kind:
            kind, target = envelope.kind, envelope.target
            check_slot(slot, kind, target)
