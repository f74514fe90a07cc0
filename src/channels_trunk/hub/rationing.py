"""Whether a control group rations this process's processor time, as containers with a limit do.

There, time that is spent awake and idle is taken from what has to be done, and who has spent it all stands still until
the next period. The files are those of Linux's documentation: cgroup-v2, cpu.max, and sched-bwc, cpu.cfs_quota_us.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["is_rationed"]

_GROUPS = Path("/proc/self/cgroup")
_MOUNTED_AT = Path("/sys/fs/cgroup")


def is_rationed(groups: Path = _GROUPS, mounted_at: Path = _MOUNTED_AT) -> bool:
    """Whether a limit is set for the process's group or one above it; False where that cannot be found out."""
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except (OSError, ValueError):
        return False
    files = (_files(line[1], line[2], mounted_at) for line in lines if len(line) == 3)
    return any(_is_limit(file) for found in files for file in found)


def _files(controllers: str, path: str, mounted_at: Path) -> Iterator[Path]:
    """Where the limits of one hierarchy stand; it has no controllers in its name if it is the only one of cgroup-v2."""
    if not controllers:
        roots, name = (mounted_at, mounted_at / "unified"), "cpu.max"
    elif "cpu" in controllers.split(","):
        roots, name = (mounted_at / controllers, mounted_at / "cpu"), "cpu.cfs_quota_us"
    else:
        return
    within = PurePosixPath(path.lstrip("/"))
    for root in roots:
        # A container may see the path that its group has outside, and its own files at the root.
        for group in (within, *within.parents):
            yield root / group / name


def _is_limit(file: Path) -> bool:
    try:
        words = file.read_text().split()
    except (OSError, ValueError):
        return False
    return bool(words) and words[0] not in ("max", "-1")
