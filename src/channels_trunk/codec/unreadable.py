"""Bytes that others wrote: whatever is wrong with them concerns them alone."""

import msgspec

from channels_trunk.exceptions import DecodeError

__all__ = ["unreadable"]


def unreadable(what: str, error: Exception) -> DecodeError:
    """What to raise in place of an error that came out of decoding.

    Not only of those that a decoder declares. Nesting is a RecursionError, a time far away an OverflowError; what a
    reader does not expect would end its whole page, and lose what lies beside the one frame that is to be skipped.
    """
    declared = isinstance(error, (msgspec.DecodeError, UnicodeDecodeError))
    # The text of others is not shown: it may quote the message.
    return DecodeError(f"malformed {what}: {error if declared else type(error).__name__}")
