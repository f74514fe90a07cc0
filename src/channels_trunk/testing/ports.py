"""Free loopback ports."""

import contextlib
import random
import socket
from pathlib import Path

__all__ = ["LOOPBACK", "free_port"]

LOOPBACK = "127.0.0.1"
FIRST_PORT = 20_000


def free_port() -> int:
    """A loopback port that nobody listens on right now.

    It lies below the ports that the system gives to outgoing connections: one of those would take the port of a server
    that is down for a moment, and a client that tries again and again could even connect to itself.
    """
    while True:
        port = random.SystemRandom().randrange(FIRST_PORT, _first_outgoing_port())
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


def _first_outgoing_port() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        first = 49_152
    return first if first >= FIRST_PORT + 1000 else 65_536
