"""Runs a server and ends it with the test run: ``keeper.py PARENT_PID FOLDER ACCOUNT PROGRAM ARGUMENT ...``.

Linux can kill a child with its parent by itself, but means the thread that started it, and a test may restart its
server in a thread that ends before the test does. So this process stays and watches the run. When the run dies, every
process of the server is killed, and its folder removed. TERM, INT, QUIT and HUP are passed on to the server.
Standard library only.
"""

import contextlib
import ctypes
import os
import pwd
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG = 1
LOOK_AGAIN_MS = 250  # where the system cannot tell when a process ends
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on; parents first. Linux only, elsewhere there are none."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for ancestor in found:
        found.extend(children.get(ancestor, ()))
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield int(entry.parent.name), int(entry.read_text().rsplit(")", 1)[1].split()[1])


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def become(account: str) -> None:
    """Give up root's rights: most servers refuse them."""
    entry = pwd.getpwnam(account)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def spawn(command: list[str]) -> int:
    """Start the server; where it can be had, Linux's own tie covers the case that this process is killed."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    child = os.fork()
    if child:
        return child
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    os._exit(127)


def watch(parent: int, child: int, wakeups: int) -> int | None:
    """Wait; return the server's exit status, or None when the run has died before it."""
    poll = select.poll()
    poll.register(wakeups, select.POLLIN)
    timeout: int | None = LOOK_AGAIN_MS
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            poll.register(os.pidfd_open(parent), select.POLLIN)
            timeout = None
    while os.getppid() == parent:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        poll.poll(timeout)
        with contextlib.suppress(BlockingIOError):
            os.read(wakeups, 4096)
    return None


def main() -> None:
    parent, folder, account, *command = sys.argv[1:]
    if account:
        become(account)
    wakeups, bell = os.pipe()
    os.set_blocking(wakeups, False)
    os.set_blocking(bell, False)
    signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    child = spawn(command)
    for number in PASSED_ON:
        signal.signal(number, lambda number, frame: signal_all([child], number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    status = watch(int(parent), child, wakeups)
    if status is not None:
        sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
    signal_all([*descendants(os.getpid()), child], signal.SIGKILL)
    os.waitpid(child, 0)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
