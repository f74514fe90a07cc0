"""A private RabbitMQ: its own Erlang register of nodes, its own port and folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from trunkbench.services import ServiceError, die_with_parent, free_port

USER = "bench"
# Not in many users' PATH.
ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
START_SECONDS = 60.0
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
ON_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
CONFIGURATION = """
default_user = {user}
default_pass = {password}
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.console.level = warning
"""


def find_program(name: str) -> Path:
    """The program itself, and no link to it: beside it are its tools."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *ELSEWHERE)))
    if found is None:
        raise ServiceError(f"{name} is not installed; install RabbitMQ or choose other --layers")
    return Path(found).resolve()


def find_scripts() -> Path:
    """The folder of the server's own scripts: Debian puts one before them that changes the account."""
    beside = find_program("rabbitmq-server").with_name("rabbitmq-server")
    return beside.resolve().parent


class RabbitServer:
    """A rabbitmq-server on a free loopback port, with its defaults, that ends with the benchmark."""

    def __init__(self, base: str | None) -> None:
        self._scripts, epmd = find_scripts(), find_program("epmd")
        self._folder = Path(tempfile.mkdtemp(prefix="trunkbench-rabbitmq-", dir=base))
        self._account = self._give_away(self._folder)
        self._password = secrets.token_hex(8)
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            register = free_port()
            self._configure(register)
            self._run([str(epmd), "-port", str(register), "-address", "127.0.0.1"])
            self._run([str(self._scripts / "rabbitmq-server")])
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _give_away(self, path: Path) -> dict[str, Any]:
        """Who runs it: nobody, where we are root."""
        if os.geteuid() != 0:
            return {}
        account = pwd.getpwnam("nobody")
        os.chown(path, account.pw_uid, account.pw_gid)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def _configure(self, register: int) -> None:
        folder = self._folder
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(register),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            # The program becomes Erlang, and does not stay before it as a shell that passes signals on.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput -start_epmd false {ON_LOOPBACK}",
            "RABBITMQ_CTL_ERL_ARGS": f"-start_epmd false {ON_LOOPBACK}",
        }
        text = CONFIGURATION.format(user=USER, password=self._password, port=self.port)
        (folder / "rabbitmq.conf").write_text(text)
        (folder / "plugins").write_text("[].\n")

    def _run(self, command: list[str]) -> None:
        with (self._folder / "server.log").open("ab") as log:
            # This process has one thread while it starts servers, so preexec_fn is safe.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
                preexec_fn=die_with_parent,  # noqa: PLW1509
                **self._account,
            )
        self._processes.append(process)

    def _wait(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and all(process.poll() is None for process in self._processes):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    connection.sendall(PROTOCOL_HEADER)
                    if connection.recv(1) == b"\x01":
                        return
            except OSError:
                time.sleep(0.05)
        said = (self._folder / "server.log").read_text(errors="replace")
        raise ServiceError(f"rabbitmq-server did not start: {said[-500:]}")

    @property
    def url(self) -> str:
        """Where it listens; %2F is its default vhost."""
        return f"amqp://{USER}:{self._password}@127.0.0.1:{self.port}/%2F"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._processes[-1].pid

    def ctl(self, *arguments: str) -> str:
        """What rabbitmqctl says."""
        done = subprocess.run(
            [str(self._scripts / "rabbitmqctl"), "--quiet", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            env=self._environment,
            **self._account,
        )
        if done.returncode:
            raise ServiceError(f"rabbitmqctl {arguments[0]}: {done.stderr[-500:]}")
        return str(done.stdout).strip()

    def version(self) -> str:
        """Such as "3.10.8"."""
        return self.ctl("version")

    def stop(self) -> None:
        """End it at once; it holds nothing worth saving."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
