#!/usr/bin/env python
"""Run the chat: two server processes and a dice worker over one SQLite file, until Ctrl-C.

Lines for programs that watch us: `PID role pid` and `UP role pid` at each start of a
child, and once `READY address address` when both servers answer.
"""

import argparse
import asyncio
import importlib.util
import signal
import socket
import sys
from pathlib import Path

from supervisor import CannotStartError, Child, say

HERE = Path(__file__).resolve().parent
PREFERRED_PORTS = range(8000, 8100)
APPLICATION = "project.asgi:application"


def arguments() -> argparse.Namespace:
    """Read the command line; without any, everything has a good default."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--allow", action="append", default=[], metavar="NAME", help="another host name to answer to")
    parser.add_argument("--port-a", type=int, help="port of server A; 0 is any (default: 8000, or the next free one)")
    parser.add_argument("--port-b", type=int, help="port of server B; 0 is any (default: the next free one)")
    parser.add_argument("--data-dir", type=Path, default=HERE / "var", help="folder of the data (default: %(default)s)")
    parser.add_argument("--server", choices=["uvicorn", "daphne"], default="uvicorn", help="(default: %(default)s)")
    return parser.parse_args()


def missing(server: str) -> list[str]:
    """Return what is not installed of all that this needs."""
    needed = ["django", "channels", "channels_trunk", server] + ["websockets"] * (server == "uvicorn")
    return [module for module in needed if importlib.util.find_spec(module) is None]


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def choose_ports(host: str, *wanted: int | None) -> list[int]:
    """Return a port for each wish: None is the next preferred one that is free, 0 is any. Raises CannotStartError."""
    chosen: list[int] = []
    for wish in wanted:
        if wish and not is_free(host, wish):
            raise CannotStartError(f"port {wish} of {host} is taken, or not ours to use")
        port = wish
        if wish is None:
            port = next((p for p in PREFERRED_PORTS if p not in chosen and is_free(host, p)), 0)
        while not port or port in chosen:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.bind((host, 0))
                port = int(probe.getsockname()[1])
        chosen.append(port)
    return chosen


def command(server: str, *, host: str, port: int) -> list[str]:
    """Return what one would type to run one server process."""
    where = ["--host" if server == "uvicorn" else "--bind", host, "--port", str(port)]
    quiet = ["--log-level", "warning", "--timeout-graceful-shutdown", "3"] if server == "uvicorn" else ["-v", "0"]
    return ["-m", server, *where, *quiet, APPLICATION]


def address(host: str, port: int) -> str:
    """Return the address that a browser on this machine opens."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}/" if ":" in reachable else f"http://{reachable}:{port}/"


def children(options: argparse.Namespace) -> tuple[list[Child], list[str]]:
    """Return the processes to run, and the addresses of the servers among them."""
    ports = dict(zip("AB", choose_ports(options.host, options.port_a, options.port_b), strict=True))
    addresses = {name: address(options.host, port) for name, port in ports.items()}
    shared = {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "CHAT_DATA_DIR": str(options.data_dir.resolve()),
        "CHAT_SERVERS": " ".join(f"{name}={where}" for name, where in addresses.items()),
        "CHAT_ALLOWED_HOSTS": " ".join([options.host, *options.allow]),
    }
    servers = [
        Child(
            role=f"server-{name.lower()}",
            command=command(options.server, host=options.host, port=port),
            environment=shared | {"CHAT_SERVER": name},
            health=addresses[name] + "healthz",
        )
        for name, port in ports.items()
    ]
    worker = Child(role="worker", command=["manage.py", "runworker", "dice"], environment=shared)
    return [*servers, worker], list(addresses.values())


async def announce(processes: list[Child], addresses: list[str]) -> None:
    """Say where to look, once all of it works."""
    for process in processes:
        await process.ready.wait()
    first, second = addresses
    say(f"chat: open {first} in one window and {second} in another: two server processes, one room. Ctrl-C ends it.")
    say(f"READY {first} {second}")


async def supervise(options: argparse.Namespace) -> None:
    """Run everything until a signal or a child that cannot be started."""
    processes, addresses = children(options)
    say(f"chat: the data is in {options.data_dir}")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work = [asyncio.create_task(process.keep_running()) for process in processes]
    work.append(asyncio.create_task(announce(processes, addresses)))
    stopping = asyncio.create_task(stop.wait())
    try:
        watched: set[asyncio.Task[object]] = {stopping, *work}
        while not stopping.done():
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            watched -= done
    finally:
        say("chat: stopping")
        for task in (*work, stopping):
            task.cancel()
        await asyncio.gather(*work, stopping, return_exceptions=True)


def main() -> int:
    """Run the chat; return the exit status."""
    options = arguments()
    if lacking := missing(options.server):
        say(f"chat: not installed here: {', '.join(lacking)}. Run `make demo`, or install channels-trunk and these.")
        return 1
    try:
        options.data_dir.mkdir(parents=True, exist_ok=True)
        asyncio.run(supervise(options))
    except (CannotStartError, OSError) as error:
        say(f"chat: {error}")
        return 1
    say("chat: stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
