"""Becomes another program that dies with its parent: ``bound_to_parent.py PARENT_PID PROGRAM ARGUMENT ...``.

A test run that is killed must leave no server behind. Linux kills the child for us; elsewhere only an orderly end
of the run stops it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before the call above: then nobody sends the signal any more.
        if os.getppid() != int(parent):
            sys.exit("the parent is gone")
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main()
