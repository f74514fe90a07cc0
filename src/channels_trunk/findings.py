"""What an examination found: `manage.py trunk_doctor` prints it, and system checks that ask a database use it."""

import socket
from enum import StrEnum

import msgspec

__all__ = ["Finding", "Level", "fault", "find_server"]

_CONNECT_WITHIN = 5.0


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. Nothing in it is secret."""

    level: Level
    code: str
    """A stable word for scripts, as in "login-refused"."""
    text: str
    """What is so."""
    remedy: str = ""
    """What to do about it."""


def fault(code: str, text: str, remedy: str) -> Finding:
    """A finding that keeps the layer from working."""
    return Finding(level=Level.ERROR, code=code, text=text, remedy=remedy)


def find_server(host: str, port: int, where: str) -> Finding | None:
    """Whether something listens at an address: None, or what is wrong. A path instead of a host is a Unix socket's."""
    try:
        if host.startswith("/"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as local:
                local.settimeout(_CONNECT_WITHIN)
                local.connect(host)
        else:
            socket.create_connection((host, port), timeout=_CONNECT_WITHIN).close()
    except socket.gaierror as error:
        return fault(
            "host-unknown",
            f"{where}: the name of the host is not known here ({error.strerror})",
            "Correct the host, or the name service of this machine or container.",
        )
    except OSError as error:
        return fault(
            "server-down",
            f"{where}: nothing answers there ({error.strerror or 'no answer in time'})",
            "Start the server, correct the host and the port, or open the way through the firewall.",
        )
    return None
