"""Which file a path names, and on what kind of file system it is."""

import os

__all__ = ["NETWORK_FILE_SYSTEMS", "file_identity", "file_system_of", "number_of_names"]

# SQLite's WAL needs memory shared between all processes, which no file system over a network gives to two hosts.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.sshfs",
        "glusterfs",
        "fuse.glusterfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)


def file_identity(path: str) -> tuple[int, int] | None:
    """Which file a path names now, or None."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def number_of_names(path: str) -> int:
    """How many names (hard links) the file has; 0 if there is none."""
    try:
        return os.stat(path).st_nlink
    except OSError:
        return 0


def file_system_of(path: str, mounts: str = "/proc/self/mounts") -> str | None:
    """Return the type of the file system that holds `path`, or None where it cannot be told."""
    try:
        with open(mounts, encoding="utf-8", errors="replace") as lines:
            entries = [line.split() for line in lines]
    except OSError:
        return None
    target = os.path.realpath(path)
    best: tuple[str, str | None] = ("", None)
    for entry in entries:
        if len(entry) < 3:
            continue
        point = entry[1].replace("\\040", " ")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        # The last of those mounted at one point covers the others.
        if inside and len(point) >= len(best[0]):
            best = (point, entry[2])
    return best[1]
