"""Another user's process that rings at a node without end."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["flooding"]

_FLOOD = r"""
import os, socket, sys
address = sys.argv[1].replace("@", "\0")
line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(34567)
    os.setuid(34567)
line.sendto(b"!", address)
print("begun", flush=True)
while True:
    line.sendto(b"!", address)
"""


@contextmanager
def flooding(address: str) -> Iterator[None]:
    """For as long as the block lasts; `@` stands for the zero byte of a name without a file."""
    with subprocess.Popen([sys.executable, "-c", _FLOOD, address], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            yield
            assert process.poll() is None
        finally:
            process.kill()
