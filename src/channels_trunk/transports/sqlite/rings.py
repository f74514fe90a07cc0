"""What a datagram between two nodes says: look into the file; or here is its next row; or here is a message by itself.

A *ring* is a hint: the row that it may carry is in the file, too. A *letter* is nowhere else. It goes to one node. Once
the kernel has taken it, it is in that process as surely as a message in a mailbox is, and the file is not written.
"""

import struct
from typing import NamedTuple

__all__ = ["LONGEST", "PLAIN_RING", "Letter", "Told", "fits", "pack_letter", "pack_ring", "unpack"]

PLAIN_RING = b"!"
_HEAD = struct.Struct(">cqq")
_ROW = b"R"
_LETTER = b"L"
# A ring goes to every process that is concerned: beyond this, asking the file costs less than the copies.
_LARGEST_FRAME = 2048
LONGEST = _HEAD.size + _LARGEST_FRAME


class Told(NamedTuple):
    """A row that was appended, and committed, before the ring."""

    row: int
    frame: bytes


class Letter(NamedTuple):
    """A frame for this node alone, sent after its sender had appended the row `after`, and before any later one."""

    after: int
    frame: bytes


def fits(frame: bytes) -> bool:
    """Whether a datagram may carry this frame."""
    return len(frame) <= _LARGEST_FRAME


def pack_ring(file_id: int, told: Told) -> bytes:
    """The ring for a row of the file with this `trunk_meta.file_id`."""
    return _HEAD.pack(_ROW, file_id, told.row) + told.frame if fits(told.frame) else PLAIN_RING


def pack_letter(file_id: int, letter: Letter) -> bytes:
    """The datagram for a letter whose frame fits()."""
    return _HEAD.pack(_LETTER, file_id, letter.after) + letter.frame


def unpack(file_id: int, datagram: bytes) -> Told | Letter | None:
    """What a datagram carries; None if it only rings, perhaps for a row of another file (ours was replaced, say)."""
    if len(datagram) <= _HEAD.size:
        return None
    kind, file, row = _HEAD.unpack_from(datagram)
    frame = datagram[_HEAD.size :]
    if kind == _LETTER:
        # Behind a row of another file there is no place: it is as good as any.
        return Letter(row if file == file_id else 0, frame)
    return Told(row, frame) if kind == _ROW and file == file_id else None
