"""How much goes through the file: what tells maintenance when to come."""

from collections.abc import Callable

__all__ = ["Traffic"]

# How much is written or read before maintenance (trimming, checkpoint) comes ahead of its time. Bytes.
_BUSTLE = 1024 * 1024
_QUIET = _BUSTLE // 4
# What a commit adds to the WAL beside the frame: at least a page.
_COST_OF_A_COMMIT = 2048


class Traffic:
    """Counts bytes, in any thread; an update lost between two threads does no harm."""

    def __init__(self, maintain_soon: Callable[[], None]) -> None:
        self._maintain_soon = maintain_soon
        self._since_maintenance = 0
        self._since_checkpoint = 0

    def wrote(self, size: int) -> None:
        """A commit of so many bytes."""
        self._since_checkpoint += size + _COST_OF_A_COMMIT
        self.read(size + _COST_OF_A_COMMIT)

    def read(self, size: int) -> None:
        """A frame of so many bytes was read."""
        self._since_maintenance += size
        if self._since_maintenance > _BUSTLE:
            self._since_maintenance = 0
            self._maintain_soon()

    def begin_maintenance(self) -> tuple[int, bool]:
        """Start counting anew; (bytes written since the last time, whether there is little traffic)."""
        written, self._since_checkpoint = self._since_checkpoint, 0
        quiet, self._since_maintenance = self._since_maintenance < _QUIET, 0
        return written, quiet
