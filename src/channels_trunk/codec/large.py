"""Memory for large frames, that each message would otherwise get from the system anew, page by page."""

__all__ = ["WORTH_KEEPING", "keep_room"]

WORTH_KEEPING = 256 * 1024
"""From so many bytes on keep_room() is worth calling."""

# Four copies of a message of the largest size that is allowed by default.
_ROOM = 8 * 1024 * 1024
_is_kept = False


def keep_room() -> None:
    """Have the C library keep what large frames took when they are freed; only the first call does something.

    glibc returns a freed block to the system at once, unless a larger one was freed before in the life of the process:
    so one is freed here, that nobody has touched. A message of 1 MB is copied some six times on its way from process
    to process. The pages of each copy, that the system has to hand out and to clear, took 0.3 ms, and the copy 0.03.
    Other C libraries have ways of their own, and are not disturbed by this.
    """
    global _is_kept
    if not _is_kept:
        _is_kept = True
        bytes(_ROOM)
