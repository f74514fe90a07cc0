"""Channel, group and node names.

The rules are those of the Channels specification ("Channels" and "Groups"): ASCII letters, digits, hyphens,
underscores and periods, fewer than 100 characters, and for a process-specific channel one `!` before its local part.
"""

import itertools
import re
import secrets
from collections.abc import Iterator
from functools import lru_cache

__all__ = [
    "MAX_NAME_LENGTH",
    "NodeId",
    "channel_owner",
    "check_channel",
    "check_group",
    "is_node_id",
    "local_names",
    "new_node_id",
    "printable",
]

NodeId = str

MAX_NAME_LENGTH = 100
# fullmatch, not match with "$": "$" also matches before a trailing newline.
_CHANNEL = re.compile(r"[a-zA-Z\d\-_.]+(![\w\-_.]*)?", re.ASCII)
_GROUP = re.compile(r"[a-zA-Z\d\-_.]+", re.ASCII)
_NODE_ID = re.compile(r"tk[a-z2-7]{16}")
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def _invalid(kind: str, name: object) -> TypeError:
    shown = repr(name)
    if len(shown) > 120:
        shown = shown[:117] + "..."
    return TypeError(
        f"{kind} name must be a valid unicode string with length < {MAX_NAME_LENGTH} containing only ASCII "
        f"alphanumerics, hyphens, underscores, or periods, not {shown}."
    )


# Small, because every socket has a channel name of its own, and an entry takes 150 bytes; a miss takes a microsecond.
@lru_cache(maxsize=512)
def _owner_of_valid(name: str) -> NodeId | None:
    if len(name) >= MAX_NAME_LENGTH or not _CHANNEL.fullmatch(name):
        raise _invalid("Channel", name)
    head, mark, _local = name.partition("!")
    node = head.rpartition(".")[2]
    return node if mark and _NODE_ID.fullmatch(node) else None


def channel_owner(name: str) -> NodeId | None:
    """Return the node that owns a process-specific channel, or None for a normal channel.

    A name with `!` whose first part holds no node id of this package counts as a normal channel by its full name.
    Raises TypeError for a name that the specification forbids.
    """
    if not isinstance(name, str):
        raise _invalid("Channel", name)
    return _owner_of_valid(name)


def check_channel(name: str) -> None:
    """Raise TypeError unless `name` may name a channel."""
    channel_owner(name)


def check_group(name: str) -> None:
    """Raise TypeError unless `name` may name a group."""
    # Without a cache: groups come and go, and to find one in it takes half as long as this, to miss it three times.
    if not isinstance(name, str) or len(name) >= MAX_NAME_LENGTH or not _GROUP.fullmatch(name):
        raise _invalid("Group", name)


def is_node_id(name: object) -> bool:
    """Whether `name` has the form of a node id."""
    return isinstance(name, str) and bool(_NODE_ID.fullmatch(name))


def new_node_id() -> NodeId:
    """Make a node id that no other process has: 80 random bits behind a mark that tells our names from others'."""
    bits = secrets.randbits(80)
    return "tk" + "".join(_BASE32[(bits >> shift) & 31] for shift in range(0, 80, 5))


def printable(text: str) -> str:
    """The text in one line that does nothing to a terminal or a log: what cannot be printed is escaped.

    For names and other texts that stand in a store, or came from a server: whoever wrote them need not have kept to the
    rules above.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def local_names() -> Iterator[str]:
    """Yield the local parts of one node's channels; unique within the node, and next() on it is atomic."""
    return map("{:x}".format, itertools.count(1))
