"""Run a Python program that ends when its parent does: `leash.py -m MODULE ARGS...` or `leash.py SCRIPT ARGS...`.

The parent holds the other end of our standard input and never writes to it. When the
parent is gone, in whatever way, the pipe closes: that works for `kill -9` as well, and
on every system.
"""

import os
import runpy
import signal
import sys
import threading
from pathlib import Path

GRACE = 5.0  # seconds to stop in an orderly way


def end_with_parent() -> None:
    """Wait for the parent's end, then stop this process."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(GRACE)
    os._exit(1)


def main() -> None:
    """Watch the parent in a thread, and become the program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started with `&`, a program would ignore it
    threading.Thread(target=end_with_parent, name="leash", daemon=True).start()
    if sys.argv[1] == "-m":
        sys.argv[:] = sys.argv[2:]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
