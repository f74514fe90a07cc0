"""What a datagram between two nodes says: look into the file; or here is its next row; or here is a message by itself.

A *ring* is a hint: the row that it may carry is in the file, too. A *letter* is nowhere else. It goes to one node. Once
the kernel has taken it, it is in that process as surely as a message in a mailbox is, and the file is not written.
"""

import struct
from typing import NamedTuple

__all__ = [
    "LARGEST_LETTER",
    "LONGEST",
    "PLAIN_RING",
    "Letter",
    "Parcel",
    "Post",
    "Told",
    "fits",
    "pack_letter",
    "pack_ring",
    "unpack",
]

PLAIN_RING = b"!"
_HEAD = struct.Struct(">cqq")
_ROW = b"R"
_LETTER = b"L"
# A ring goes to every process that is concerned: beyond this, asking the file costs less than the copies.
_LARGEST_ROW = 2048
LARGEST_LETTER = 16 * 1024 * 1024
LONGEST = 64 * 1024
"""What a datagram holds. A socket's buffer, of 208 KiB mostly, takes three of these."""


class Told(NamedTuple):
    """A row that was appended, and committed, before the ring."""

    row: int
    frame: bytes


class Letter(NamedTuple):
    """A frame for this node alone, sent after its sender had appended the row `after`, and before any later one."""

    after: int
    frame: bytes


class Parcel(NamedTuple):
    """A letter whose frame is too large for its datagram; see parcels.py."""

    datagram: bytes
    frame: bytes


Post = bytes | Parcel
"""What one node sends to another: a datagram, perhaps with something beside it."""


def fits(frame: bytes) -> bool:
    """Whether this frame may be a letter."""
    return len(frame) <= LARGEST_LETTER


def pack_ring(file_id: int, told: Told) -> bytes:
    """The ring for a row of the file with this `trunk_meta.file_id`."""
    if len(told.frame) > _LARGEST_ROW:
        return PLAIN_RING
    return _HEAD.pack(_ROW, file_id, told.row) + told.frame


def pack_letter(file_id: int, letter: Letter) -> Post:
    """What is sent of a letter whose frame fits()."""
    head = _HEAD.pack(_LETTER, file_id, letter.after)
    if len(head) + len(letter.frame) > LONGEST:
        return Parcel(head, letter.frame)
    return head + letter.frame


def unpack(file_id: int, post: Post) -> Told | Letter | None:
    """What has come; None if it only rings, perhaps for a row of another file (ours was replaced, say)."""
    datagram, frame = (post, post[_HEAD.size :]) if isinstance(post, bytes) else post
    if len(datagram) < _HEAD.size or not frame:
        return None
    kind, file, row = _HEAD.unpack_from(datagram)
    if kind == _LETTER:
        # Behind a row of another file there is no place: it is as good as any.
        return Letter(row if file == file_id else 0, frame)
    return Told(row, frame) if kind == _ROW and file == file_id else None
