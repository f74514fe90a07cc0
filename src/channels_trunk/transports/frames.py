"""What transports that store frames do with each: open it, see that it lies where it is for, and keep what is wanted.

The only way from a frame to envelopes for a transport: whoever reads one says where it was found.
"""

from channels_trunk.codec import ANY, LOG, Slot, check_slot, check_slots, moved
from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import DecodeError
from channels_trunk.names import channel_owner

from .base import Claimed, NodeContext

__all__ = ["claimed_message", "envelopes_for_node", "envelopes_in"]

_QUEUE = int(Kind.QUEUE)


def envelopes_for_node(context: NodeContext, frame: bytes, slot: Slot = LOG) -> list[Envelope]:
    """The envelopes in a frame of another node that are for this one.

    None, and the sink is told, if it cannot be opened, or lies where it is not for.
    """
    try:
        origin, envelopes = context.codec.decode_frame(frame)
        if origin == context.node:
            # No node reads what it wrote itself: somebody else has sent it back.
            raise DecodeError("a frame lies where it is not for: this process wrote it itself")
        return _those_for(context.node, envelopes, slot)
    except (DecodeError, TypeError) as error:
        # TypeError: a target that is no channel name.
        context.sink.skipped(error)
        return []


def envelopes_in(context: NodeContext, frame: bytes, slot: Slot) -> list[Envelope]:
    """The envelopes in a frame, whoever wrote it; raises DecodeError if it cannot be opened, or is not for the slot."""
    _origin, envelopes = context.codec.decode_frame(frame)
    try:
        check_slots(slot, envelopes)
    except TypeError as error:
        raise DecodeError("malformed frame: a target that is no channel name") from error
    return envelopes


def claimed_message(context: NodeContext, channel: str, expires_at: float, frame: bytes) -> Claimed | None:
    """The one message of a normal channel that a frame holds; None, and the sink is told, if it holds none."""
    try:
        _origin, [envelope] = context.codec.decode_frame(frame)
        if envelope.target != channel or envelope.kind != _QUEUE:
            # Also without keys: a frame that is somewhere else than its writer put it means harm, or a mistake.
            raise moved()
        # In this order: what is no number is never less.
        return Claimed(channel, min(envelope.expires_at, expires_at), envelope.body)
    except (DecodeError, ValueError, TypeError) as error:
        # ValueError: more envelopes than one, or none; TypeError: what stands beside the frame is no number.
        context.sink.skipped(error)
        return None


def _those_for(node: str, envelopes: list[Envelope], slot: Slot) -> list[Envelope]:
    found: list[Envelope] = []
    kind, target, is_for = -1, "", False
    for envelope in envelopes:
        # Most have the target of the one before.
        if envelope.target != target or envelope.kind != kind:
            kind, target = envelope.kind, envelope.target
            if slot.get(kind) != ANY:
                check_slot(slot, kind, target)
            is_for = _is_for(node, kind, target)
        if is_for:
            found.append(envelope)
    return found


def _is_for(node: str, kind: int, target: str) -> bool:
    if kind == Kind.GROUP:
        return True
    if kind == Kind.MAILBOX:
        return channel_owner(target) == node
    return kind == Kind.CONTROL and target in (node, EVERY_NODE)
