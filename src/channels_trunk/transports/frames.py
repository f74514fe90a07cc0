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
        return [envelope for envelope in envelopes if _is_for(envelope, context.node)]
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
    except (DecodeError, ValueError) as error:
        context.sink.skipped(error)
        return None
    return Claimed(channel, min(expires_at, envelope.expires_at), envelope.body)


def _is_for(envelope: Envelope, node: str) -> bool:
    if envelope.kind == Kind.GROUP:
        return True
    if envelope.kind == Kind.MAILBOX:
        return channel_owner(envelope.target) == node
    return envelope.kind == Kind.CONTROL and envelope.target in (node, EVERY_NODE)
