"""What a ring may carry: the row it rings for, so that a reader that misses nothing before it need not ask the file."""

import struct
from typing import NamedTuple

__all__ = ["LONGEST_RING", "PLAIN_RING", "Told", "pack_ring", "unpack_ring"]

PLAIN_RING = b"!"
_HEAD = struct.Struct(">qq")
# A copy goes to each process: beyond this, asking the file costs less than the copies.
_LARGEST_FRAME = 2048
LONGEST_RING = _HEAD.size + _LARGEST_FRAME


class Told(NamedTuple):
    """A row that was appended, and committed, before the ring."""

    row: int
    frame: bytes


def pack_ring(file_id: int, told: Told) -> bytes:
    """The ring for a row of the file with this `trunk_meta.file_id`."""
    if len(told.frame) > _LARGEST_FRAME:
        return PLAIN_RING
    return _HEAD.pack(file_id, told.row) + told.frame


def unpack_ring(file_id: int, ring: bytes) -> Told | None:
    """The row that a ring tells of; None if it tells of none, or of one in another file (ours was replaced, say)."""
    if len(ring) <= _HEAD.size:
        return None
    file, row = _HEAD.unpack_from(ring)
    return Told(row, ring[_HEAD.size :]) if file == file_id else None
