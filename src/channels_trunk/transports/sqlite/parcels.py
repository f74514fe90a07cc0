"""A frame that is too large for a datagram travels as memory, whose descriptor the datagram brings (Linux).

The kernel frees the memory when its receiver has read it, or has died.
"""

import array
import os
import socket
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from .rings import LARGEST_LETTER, LONGEST, PLAIN_RING, Parcel, Post

with suppress(ImportError):  # Windows has neither.
    from fcntl import ioctl
    from termios import TIOCOUTQ

__all__ = ["DescriptorRefused", "receive", "send"]

_ARE_THERE: Final = hasattr(os, "memfd_create") and hasattr(socket, "MSG_CMSG_CLOEXEC")
_NOTHING = bytes(4)
_ONE_DESCRIPTOR = array.array("i", [0]).itemsize

Ancillary = Iterable[tuple[int, int, bytes]]


class DescriptorRefused(OSError):
    """This process has as many descriptors open as it may, and so what another one sent it is lost."""


def send(line: socket.socket, parcel: Parcel) -> None:
    """Raises BlockingIOError if the receiver has to get it in another way."""
    # One at a time: a process that has stopped must not make others fill the memory.
    if not _ARE_THERE or ioctl(line.fileno(), TIOCOUTQ, _NOTHING) != _NOTHING:
        raise BlockingIOError
    try:
        memory = os.memfd_create("channels-trunk", os.MFD_CLOEXEC)
    except OSError as error:
        raise BlockingIOError from error
    try:
        _fill(memory, parcel.frame)
        socket.send_fds(line, [parcel.datagram], [memory])
    finally:
        os.close(memory)


def _fill(memory: int, content: bytes) -> None:
    rest = memoryview(content)
    try:
        while rest:
            rest = rest[os.write(memory, rest) :]
    except OSError as error:
        raise BlockingIOError from error


def receive(sock: socket.socket) -> Post:
    """The next datagram. Raises BlockingIOError if there is none, and DescriptorRefused."""
    if not _ARE_THERE:
        return sock.recv(LONGEST)
    datagram, ancillary, flags, _ = sock.recvmsg(LONGEST, socket.CMSG_SPACE(_ONE_DESCRIPTOR), socket.MSG_CMSG_CLOEXEC)
    if ancillary:
        return _unwrapped(datagram, _descriptors(ancillary))
    if flags & socket.MSG_CTRUNC:
        raise DescriptorRefused
    return datagram


def _descriptors(ancillary: Ancillary) -> Sequence[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % _ONE_DESCRIPTOR])
    return found


def _unwrapped(datagram: bytes, descriptors: Sequence[int]) -> Post:
    try:
        for memory in descriptors:
            status = os.fstat(memory)
            # Not what a stranger may have sent: a pipe, say, would be waited for.
            if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_LETTER:
                return Parcel(datagram, os.pread(memory, status.st_size, 0))
    finally:
        for memory in descriptors:
            os.close(memory)
    return PLAIN_RING
