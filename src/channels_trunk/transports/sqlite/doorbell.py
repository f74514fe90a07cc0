"""The wake-up, and the way of letters: one datagram socket per node, beside the database file; see rings.py."""

import errno
import glob
import hashlib
import os
import socket
import stat
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from enum import Enum, auto
from functools import partial

from channels_trunk.file_systems import file_identity
from channels_trunk.names import is_node_id, new_node_id

from . import parcels
from .rings import PLAIN_RING, Parcel, Post

with suppress(ImportError):  # Windows has neither, nor the sockets that they would be for.
    from fcntl import ioctl
    from termios import FIONREAD

__all__ = ["Doorbell", "Rung", "remove_socket", "remove_sockets"]

# sockaddr_un holds 107 bytes and a zero.
_LONGEST = 107
_NOTHING = bytes(4)
# What says that a socket cannot be beside the database, but may be elsewhere. None: Python itself finds the address too
# long, because the file's name alone is.
_NO_PLACE_BESIDE = (None, errno.ENOENT, errno.ENAMETOOLONG, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP)

# Its process is there, and has to look for what did not go into a socket.
_NO_ROOM = (errno.ENOBUFS, errno.EMSGSIZE, getattr(errno, "ETOOMANYREFS", errno.ENOBUFS))

# What a socket holds at the most, plus one, where Linux does not say.
_QUEUE = 1024


class Rung(Enum):
    """What came of a ring."""

    HEARD = auto()
    FULL = auto()  # the socket holds datagrams that were not taken yet, so that its process will look
    NOBODY = auto()  # the socket's process is gone
    UNREACHABLE = auto()  # the socket cannot be seen from here: another mount namespace, or another user's

    @property
    def is_held(self) -> bool:
        """Whether a process holds the socket."""
        return self in (Rung.HEARD, Rung.FULL)


class Doorbell:
    """Where there are no Unix sockets, or none can be made, `address` is empty and polling carries the node.

    Its place is beside the file itself, whatever links lead there; and whoever may write the file may ring.
    """

    def __init__(self, database: str, node: str) -> None:
        self._path = database
        self._database = os.path.realpath(database)
        self._node = node
        self._socket: socket.socket | None = None
        self._identity: object = None  # which socket is ours, as another may be made in its place
        self._directories: dict[str, int] = {}  # deep directories that others' sockets are in, by open descriptor
        # For each address that was rung a socket of its own. What a stopped process leaves unread counts against the
        # buffer of the socket that sent it: with one for all, nobody else would be heard ringing.
        self._lines: dict[str, socket.socket] = {}  # guarded by _ringing
        self._ringing = threading.Lock()
        self._answering = threading.Lock()  # so that datagrams are noted in the order in which they came
        self._at_once = _QUEUE
        self.taken: deque[Post] = deque()
        """Datagrams that were taken off the socket and not read yet, in their order."""
        self.lost = 0
        """How many letters came that this process could not take."""
        self.address = ""
        self.why_none = ""
        """Why there is no socket."""
        self.failure = 0
        """The errno of the last ring that was UNREACHABLE."""

    def open(self) -> None:
        """Make the socket, unless it is there and whole."""
        if self._socket is not None and self.is_whole:
            return
        self._close_socket()
        self._database = os.path.realpath(self._path)
        if not hasattr(socket, "AF_UNIX"):
            self.why_none = "this system has no Unix sockets"
            return
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            # The mode is the inode's before it is bound, so that there is no moment in which others may ring.
            os.fchmod(self._socket.fileno(), 0o600)
            self._at_once = _longest_queue()
            self.address = self._bind(self._socket)
            _admit_those_who_may_write(self._database, self.address)
            self._identity = file_identity(self.address)
            self.why_none = ""
        except OSError as error:
            self.why_none = f"no socket can be made for it ({error.strerror or error})"
            self._close_socket()

    @property
    def is_whole(self) -> bool:
        """Whether others can find the socket, if there is one, where they look for it."""
        if self._socket is None:
            return True
        return file_identity(self.address) == self._identity and os.path.realpath(self._path) == self._database

    def _bind(self, sock: socket.socket) -> str:
        beside = f"{self._database}.{self._node}"
        try:
            sock.bind(self._short(beside))
        except OSError as error:
            if error.errno not in _NO_PLACE_BESIDE:
                raise
        else:
            return beside
        elsewhere = os.path.join(_private_directory(self._database), self._node)
        sock.bind(self._short(elsewhere))
        return elsewhere

    def fileno(self) -> int | None:
        """The descriptor that becomes readable when somebody rings."""
        return None if self._socket is None else self._socket.fileno()

    def answer(self) -> None:
        """Take what has come off the socket, and not all that comes meanwhile; in any thread.

        A ring is lost only while the socket is full of others. So where `taken` holds a single one, none was lost that
        is not followed by another one.
        """
        with self._answering:
            if self._socket is not None:
                self._empty(self._socket)

    @property
    def has_post(self) -> bool:
        """Whether something has come that was not read yet."""
        with self._answering:
            if self._socket is None or self.taken:
                return bool(self.taken)
            return ioctl(self._socket.fileno(), FIONREAD, _NOTHING) != _NOTHING

    def _empty(self, sock: socket.socket) -> None:
        with suppress(OSError):  # nothing there
            self._take(sock)
            # Asked for a size, because a recv() that finds nothing costs 4 us more, most of it for the exception.
            for _ in range(self._at_once):
                if ioctl(sock.fileno(), FIONREAD, _NOTHING) == _NOTHING:
                    return
                self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        try:
            self.taken.append(parcels.receive(sock))
        except parcels.DescriptorRefused:
            self.lost += 1
            self.taken.append(PLAIN_RING)

    def locate(self, node: str, told: str) -> str:
        """Where another node's socket is, by what the table tells; empty if it has none.

        The table is not trusted with paths, as whoever may write it could have any socket rung, or removed. What it
        tells only chooses between the two places where this process would look for that node's socket.
        """
        if not told or not isinstance(told, str) or not is_node_id(node):
            return ""
        beside = f"{self._database}.{node}"
        if os.path.basename(told) == os.path.basename(beside):
            return beside
        return os.path.join(_private_directory_of(self._database), node) if os.path.basename(told) == node else ""

    def ring(self, address: str, post: Post = PLAIN_RING) -> Rung:
        """Send to another node's address, as locate() gave it; in any thread."""
        own = self._socket
        if own is None or not address:
            return Rung.UNREACHABLE
        with self._ringing:
            line = self._lines.get(address)
            if line is not None:
                if (rung := _sent(line, post)).is_held:
                    return rung
                # The process is gone, or has made its socket anew: the address tells.
                self._lines.pop(address).close()
            try:
                line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            except OSError:
                # Out of descriptors: without a line of its own, from the node's socket.
                if isinstance(post, Parcel):
                    return Rung.FULL
                return _outcome(partial(own.sendto, post, self._short(address)))
            line.setblocking(False)
            rung = self._connected(line, address)
            if rung is Rung.HEARD:
                rung = _sent(line, post)
            if rung.is_held:
                self._lines[address] = line
            else:
                line.close()
            return rung

    def probe(self, address: str) -> Rung:
        """Ring, where nothing is to be kept."""
        own = self._socket
        if own is None or not address:
            return Rung.UNREACHABLE
        return _outcome(lambda: own.sendto(PLAIN_RING, self._short(address)))

    def reach(self, address: str) -> Rung:
        """Whether a process holds the socket; nothing is sent, and nobody woken. In any thread."""
        if self._socket is None or not address:
            return Rung.UNREACHABLE
        try:
            line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError:
            return self.probe(address)  # out of descriptors
        with line:
            return self._connected(line, address)

    def _connected(self, line: socket.socket, address: str) -> Rung:
        try:
            line.connect(self._short(address))
        except ConnectionError as error:
            if _is_socket(address):
                return Rung.NOBODY
            # So it is where another file has taken the socket's place: that says nothing about the process.
            self.failure = error.errno or errno.ECONNREFUSED
            return Rung.UNREACHABLE
        except OSError as error:
            self.failure = error.errno or errno.EIO
            return Rung.UNREACHABLE
        return Rung.HEARD

    def hang_up(self, known: Collection[str]) -> None:
        """Free what is kept for addresses other than these."""
        with self._ringing:
            for address in self._lines.keys() - known:
                self._lines.pop(address).close()

    def orphans(self, known: Collection[str]) -> list[str]:
        """Sockets beside the database that no node has and nobody holds: their processes were killed."""
        found = glob.glob(f"{glob.escape(self._database)}.tk{'?' * 16}")
        others = (address for address in found if address != self.address and address not in known)
        return [address for address in others if self.reach(address) is Rung.NOBODY]

    def _short(self, address: str) -> str:
        """A name for the same socket that fits into sockaddr_un."""
        if len(os.fsencode(address)) <= _LONGEST:
            return address
        directory, name = os.path.split(address)
        descriptor = self._directories.get(directory)
        if descriptor is None or not os.path.samestat(os.fstat(descriptor), os.stat(directory)):
            if descriptor is not None:
                os.close(self._directories.pop(directory))  # the directory was removed, and made again
            flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
            descriptor = self._directories[directory] = os.open(directory, flags)
        return f"/proc/self/fd/{descriptor}/{name}"

    def close(self) -> None:
        """Take the socket away."""
        self._close_socket()
        self.hang_up(())
        self._close_directories()

    def _close_socket(self) -> None:
        with self._answering:
            sock, self._socket = self._socket, None
            if sock is not None:
                # First of all the name: one that is there and refuses says that its process was killed.
                if self.address:
                    remove_socket(self.address)
                # Then nobody can send to it any more, and what had been sent is taken: so no letter is lost.
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RD)
                self._empty(sock)
                sock.close()
            self.address = ""

    def abandon(self) -> None:
        """In a forked child: close the descriptors, and leave the parent's socket where it is."""
        if self._socket is not None:
            # Not left open: it would take rings for a parent that has died.
            os.close(self._socket.detach())
            self._socket = None
        # Not by hang_up(): a thread of the parent's may hold the lock, for ever.
        for line in self._lines.values():
            line.close()
        self._lines = {}
        self._close_directories()
        self.address = ""

    def _close_directories(self) -> None:
        for descriptor in self._directories.values():
            os.close(descriptor)
        self._directories.clear()


def _sent(line: socket.socket, post: Post) -> Rung:
    return _outcome(partial(line.send, post) if isinstance(post, bytes) else partial(parcels.send, line, post))


def _outcome(attempt: Callable[[], object]) -> Rung:
    try:
        attempt()
    except BlockingIOError:
        return Rung.FULL
    except (ConnectionError, BrokenPipeError):
        return Rung.NOBODY
    except OSError as error:
        return Rung.FULL if error.errno in _NO_ROOM else Rung.UNREACHABLE
    return Rung.HEARD


def _admit_those_who_may_write(database: str, address: str) -> None:
    """Let those ring who may write the database, and nobody else: they might write into its tables as well."""
    try:
        status = os.stat(database)
    except OSError:
        return
    mode = 0o600 | (0o006 if status.st_mode & 0o002 else 0)
    with suppress(OSError):  # not a member of the database's group
        os.chown(address, status.st_uid if os.geteuid() == 0 else -1, status.st_gid)
        mode |= 0o060 if status.st_mode & 0o020 else 0
    os.chmod(address, mode)


def _longest_queue() -> int:
    """How many datagrams a socket that is made now may hold."""
    try:
        with open("/proc/sys/net/unix/max_dgram_qlen", "rb") as file:
            return int(file.read()) + 1
    except (OSError, ValueError):
        return _QUEUE


def remove_socket(address: str) -> None:
    """Remove a socket's name, if it is one."""
    if _is_socket(address):
        with suppress(OSError):  # gone already
            os.unlink(address)


def remove_sockets(database: str) -> None:
    """Remove the sockets beside a database whose processes are gone."""
    doorbell = Doorbell(database, new_node_id())
    doorbell.open()  # only who has one can tell
    for address in doorbell.orphans(()):
        remove_socket(address)
    doorbell.close()


def _is_socket(address: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(address).st_mode)
    except (OSError, ValueError):
        return False  # gone already, or not ours to see, or no path


def _private_directory_of(database: str) -> str:
    # By what the database's directory is, as it may have several names.
    identity = file_identity(os.path.dirname(database))
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
    return os.path.join(tempfile.gettempdir(), f"channels-trunk-{os.getuid()}-{name}")


def _private_directory(database: str) -> str:
    """A short directory of this user's for sockets of databases whose own directory cannot hold them."""
    directory = _private_directory_of(database)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(errno.EACCES, "somebody else's directory", directory)
    return directory
