"""The machine and the versions, so that figures can be compared; and what one process costs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def describe_machine(directory: Path) -> dict[str, str | int]:
    """Processor, memory, system, and the file system of the benchmark's files."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "processors": os.cpu_count() or 0,
        "memory_mib": _memory_mib(),
        "file_system": _file_system(directory),
    }


def load() -> str:
    """How busy the machine is, as the mean of the last minute; the benchmark itself is part of it."""
    return f"{os.getloadavg()[0]:.2f}"


def describe_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Python, SQLite and the distributions named, with their versions."""
    versions = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    for name in ("Django", "channels", "asgiref", *distributions):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            module = sys.modules.get(name.replace("-", "_"))
            versions[name] = f"{getattr(module, '__version__', '')} (not installed)".strip()
    return versions


def _processor() -> str:
    try:
        lines = (PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _memory_mib() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20


def _file_system(directory: Path) -> str:
    try:
        mounts = [line.split()[1:3] for line in (PROC / "mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    around = [(len(place), kind) for place, kind in mounts if directory.resolve().is_relative_to(place)]
    return max(around)[1] if around else "unknown"


def resident_bytes(pid: int | None = None) -> int:
    """The resident memory of a process now."""
    pid = pid or os.getpid()
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return int(said.stdout.strip() or 0) * 1024


def process_seconds(pid: int) -> float | None:
    """Processor seconds another process has used, where the system tells."""
    if sys.platform != "linux":
        return None
    # The second field is the program's name in brackets and may hold spaces.
    after_name = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def connection_count() -> float:
    """TCP connections that this process holds, where the system tells; not a number elsewhere."""
    if sys.platform != "linux":
        return float("nan")
    established = "01"
    rows = [line.split() for name in ("tcp", "tcp6") for line in _lines(PROC / "self" / "net" / name)[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[3] == established}
    held = 0
    for descriptor in (PROC / "self" / "fd").iterdir():
        try:
            held += os.readlink(descriptor) in sockets
        except OSError:
            continue  # It was the one that looked.
    return float(held)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def thread_count() -> int:
    """Threads of this process, those Python does not know of included where the system tells."""
    try:
        return len(list((PROC / "self" / "task").iterdir()))
    except OSError:
        return threading.active_count()
