"""What this process holds."""

import threading
from pathlib import Path


def threads_and_files() -> tuple[int, int]:
    """How many threads there are, and how many open files and sockets."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
