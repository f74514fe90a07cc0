"""What travels between nodes: an envelope has a target, an expiry and a packed body."""

import sys
from enum import IntEnum
from typing import Annotated

import msgspec

__all__ = ["EVERY_NODE", "Control", "ControlOp", "Envelope", "Kind"]

EVERY_NODE = "*"

# What is no time would never expire, and some engines cannot store it: nobody could give such a message back.
Seconds = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]


class Kind(IntEnum):
    """What the target of an envelope is."""

    MAILBOX = 0  # a process-specific channel
    GROUP = 1
    QUEUE = 2  # a normal channel
    CONTROL = 3  # a node, or EVERY_NODE: the body is a Control


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message on its way. `expires_at` is wall-clock seconds, because it crosses processes."""

    kind: int
    target: str
    expires_at: Seconds
    body: bytes


class ControlOp(IntEnum):
    """What one node asks of another, or answers."""

    JOIN = 1  # add `channel` (of the receiving node) to `group`; answered by DONE
    LEAVE = 2  # answered by DONE
    FLUSH = 3  # drop all messages and memberships; answered by DONE
    DONE = 4  # `number` is the request's
    REPORT = 5  # how much room has the mailbox of `channel`? answered by ROOM
    ROOM = 6  # the mailbox of `channel` takes `room` more messages; `number` is the question's
    DRAINED = 7  # to every node: the mailbox of `channel`, which was said to be full, takes `room` more


class Control(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The body of a control envelope."""

    op: int
    sender: str
    number: int = 0
    channel: str = ""
    group: str = ""
    room: int = 0
