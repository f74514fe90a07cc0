"""What transports that store frames do with each: open it, and keep what is for this node, or for this channel."""

from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import DecodeError
from channels_trunk.names import channel_owner

from .base import Claimed, NodeContext

__all__ = ["claimed_message", "envelopes_for_node"]


def envelopes_for_node(context: NodeContext, frame: bytes) -> list[Envelope]:
    """The envelopes in a frame that are for this node; none, and the sink is told, if it cannot be opened."""
    try:
        _origin, envelopes = context.codec.decode_frame(frame)
        return _those_for(context.node, envelopes)
    except (DecodeError, TypeError) as error:
        # TypeError: a target that is no channel name.
        context.sink.skipped(error)
        return []


def claimed_message(context: NodeContext, channel: str, expires_at: float, frame: bytes) -> Claimed | None:
    """The one message of a normal channel that a frame holds; None, and the sink is told, if it holds none."""
    try:
        _origin, [envelope] = context.codec.decode_frame(frame)
        if envelope.target != channel:
            # Where frames are encrypted, a row that was moved to another channel by hand is a forgery.
            raise DecodeError("a frame lies in a channel that it is not for")
        # In this order: what is no number is never less.
        return Claimed(channel, min(envelope.expires_at, expires_at), envelope.body)
    except (DecodeError, ValueError, TypeError) as error:
        # ValueError: more envelopes than one, or none; TypeError: what stands beside the frame is no number.
        context.sink.skipped(error)
        return None


def _those_for(node: str, envelopes: list[Envelope]) -> list[Envelope]:
    found: list[Envelope] = []
    kind, target, is_for = -1, "", False
    for envelope in envelopes:
        # Most have the target of the one before.
        if envelope.target != target or envelope.kind != kind:
            kind, target = envelope.kind, envelope.target
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
