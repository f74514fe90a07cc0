"""Peer processes, and the template that forks them: `python -m channels_trunk.testing.peer SOCKET`.

The template imports what a layer needs and opens nothing. For each line that it reads, NAME and the file for stderr, it
forks a peer: that costs a hundredth of what a new interpreter would. It ends, without its peers, when its stdin does.

A peer connects to SOCKET, says its NAME, is told BACKEND and CONFIG, and then does what it is told (see commands.py),
several things at a time. It ends when the connection ends, and at the latest when it was told nothing new for LIFETIME
seconds, whatever hangs.
"""

import asyncio
import gc
import os
import pickle
import signal
import sys
import traceback
from typing import Any

from django.utils.module_loading import import_string

from channels_trunk.testing.commands import Commands, in_thread
from channels_trunk.testing.layer import Layer, configure_django, make_layer
from channels_trunk.testing.wire import as_sendable, read_frame, write_frame

__all__ = ["main"]

LIFETIME = 600


class PeerProcess(Commands):
    """The commands, and those that only a process can do."""

    def __init__(self, layer: Layer, *, patience: float, socket_path: str, connection: int) -> None:
        super().__init__(layer, patience=patience)
        self._socket_path = socket_path
        self._connection = connection  # its file descriptor

    async def fork(self, name: str) -> int:
        """Fork a child that serves as the peer `name` with the layer object it inherits; return its pid."""
        # In a thread: the child then has only that thread, in which no loop runs, as after a prefork server's fork.
        pid: int = await in_thread(lambda: self._fork(name))
        return pid

    async def die(self) -> None:
        """Leave at once, with nothing cleaned up."""
        os._exit(9)

    def _fork(self, name: str) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            _limit_lifetime()
            # The parent's connection must end with the parent. Not closed: the inherited transport still names it.
            os.dup2(os.open(os.devnull, os.O_RDWR), self._connection)
            asyncio.run(serve(self._socket_path, name, layer=self.layer))
        except BaseException:  # noqa: BLE001 - nothing may return into the parent's code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)


async def serve(socket_path: str, name: str, *, layer: Layer | None = None) -> None:
    """Connect, and do what comes until the connection ends."""
    reader, writer = await asyncio.open_unix_connection(socket_path)
    write_frame(writer, ("hello", name, os.getpid()))
    backend, config, settings, patience = await read_frame(reader)
    if layer is None:
        configure_django(settings)
        layer = make_layer(backend, config)
    connection = writer.get_extra_info("socket").fileno()
    commands = PeerProcess(layer, patience=patience, socket_path=socket_path, connection=connection)
    tasks: dict[int, asyncio.Task[None]] = {}
    try:
        while True:
            request = await read_frame(reader)
            _limit_lifetime()
            if request[0] == "stop":
                break
            if request[0] == "cancel":
                if request[1] in tasks:
                    tasks[request[1]].cancel()
                continue
            _, number, command, arguments, options = request
            call = getattr(commands, command)(*arguments, **options)
            task = asyncio.create_task(_answer(writer, number, call))
            tasks[number] = task
            task.add_done_callback(lambda _, number=number: tasks.pop(number))  # type: ignore[misc]
    except (asyncio.IncompleteReadError, ConnectionError):
        return  # the suite is gone
    for task in list(tasks.values()):
        task.cancel()
    await asyncio.gather(*list(tasks.values()), return_exceptions=True)
    await commands.close()
    write_frame(writer, ("stopped",))
    await writer.drain()
    writer.close()


async def _answer(writer: asyncio.StreamWriter, number: int, call: Any) -> None:
    try:
        answer: tuple[Any, ...] = ("result", number, await call)
    except asyncio.CancelledError:
        answer = ("cancelled", number)
    except Exception as error:  # noqa: BLE001 - it belongs to the caller
        error.add_note("".join(traceback.format_tb(error.__traceback__)))
        answer = ("error", number, as_sendable(error))
    write_frame(writer, answer)


def _limit_lifetime() -> None:
    # The signal's default action ends the process, even one that hangs in C code.
    if hasattr(signal, "alarm"):
        signal.alarm(LIFETIME)


def serve_forked(socket_path: str, name: str, stderr: str) -> None:
    """What a child of the template does."""
    _limit_lifetime()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    # What a layer prints must not be mistaken for anything.
    os.dup2(2, 1)
    asyncio.run(serve(socket_path, name))


def main() -> None:
    """Fork peers until stdin ends."""
    # Peers are looked after by the suite, over their connections; nobody waits for them here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    requests = sys.stdin.buffer
    backend, settings = pickle.loads(bytes.fromhex(requests.readline().decode()))  # noqa: S301 - the suite's own
    configure_django(settings)
    import_string(backend)
    gc.collect()
    gc.freeze()
    for line in requests:  # each is written at once, and read before the next is
        name, stderr = line.decode().rstrip("\n").split(" ", 1)
        if os.fork() == 0:
            # It ends as any program does: a layer that was closed must let it end.
            serve_forked(sys.argv[1], name, stderr)
            break


if __name__ == "__main__":
    main()
