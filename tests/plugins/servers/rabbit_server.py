"""One RabbitMQ node of the tests' own, and what tests do to it."""

import os
import secrets
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from channels_trunk.testing import eventually_blocking
from channels_trunk.testing.ports import LOOPBACK, free_port
from tests.plugins.servers.process import Process, ServerError, find, give_to_account, run_as_account
from tools.server_table import RABBITMQ, Program

USER = "trunk"
# Erlang takes ten seconds of a processor to start, of which a loaded machine gives it a twentieth.
START_SECONDS = 240.0
CTL_SECONDS = 60.0
VHOSTS_AT_ONCE = 20  # one call of rabbitmqctl takes as long as making many of them
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
ON_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
CONFIGURATION = """
default_user = {user}
default_pass = {password}
loopback_users = none
listeners.tcp.1 = {host}:{port}
log.console = true
log.console.level = warning
disk_free_limit.absolute = 1MB
"""
MAKE_VHOSTS = """
[begin
   rabbit_vhost:add(V, <<"tests">>),
   rabbit_auth_backend_internal:set_permissions(<<"{user}">>, V, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)
 end || V <- [{names}]].
"""


class Epmd:
    """Erlang's register of nodes, one for each server or cluster: the machine's own is left alone."""

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("epmd")
        if binary is None:
            raise ServerError(RABBITMQ.remedy())
        self.port = free_port()
        self.process = Process([binary, "-port", str(self.port), "-address", LOOPBACK], folder=folder)

    def start(self) -> None:
        self.process.start(self.answers)

    def answers(self) -> bool:
        with socket.create_connection((LOOPBACK, self.port), timeout=1):
            return True


class RabbitServer:
    """A RabbitMQ node. It keeps its port and its data when it is stopped and started again.

    `cookie` and `peers` are those of its cluster.
    """

    def __init__(
        self,
        folder: Path,
        *,
        epmd: Epmd,
        name: str,
        cookie: str,
        peers: Sequence[str] = (),
        program: Program = RABBITMQ,
    ) -> None:
        self.folder = folder
        self.host = LOOPBACK
        self.port = free_port()
        self.node = f"{name}@localhost"
        # Nodes of one cluster have the same users: so they share the password as well.
        self._password = cookie
        self._vhosts: list[str] = []
        self._scripts = find(program).resolve().parent
        self._environment = self._make_environment(epmd)
        self._configure(cookie, peers)
        self.process = Process([self._scripts / "rabbitmq-server"], folder=folder, environment=self._environment)

    def _make_environment(self, epmd: Epmd) -> dict[str, str]:
        return {
            "PATH": os.pathsep.join([*self._erlang(), os.environ.get("PATH", os.defpath)]),
            "ERL_EPMD_PORT": str(epmd.port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            # The program becomes Erlang, and does not stay before it as a shell that passes signals on.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput -start_epmd false {ON_LOOPBACK}",
            "RABBITMQ_CTL_ERL_ARGS": f"-start_epmd false {ON_LOOPBACK}",
        }

    def _erlang(self) -> list[str]:
        """Where the Erlang is that came with a program of another release."""
        return [str(path) for parent in self._scripts.parents for path in parent.glob("lib/erlang/bin")][:1]

    def _configure(self, cookie: str, peers: Sequence[str]) -> None:
        lines = [CONFIGURATION.format(user=USER, password=self._password, host=self.host, port=self.port)]
        if peers:
            lines.append("cluster_formation.peer_discovery_backend = classic_config")
            lines += [f"cluster_formation.classic_config.nodes.{i} = {peer}" for i, peer in enumerate(peers, 1)]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "plugins").write_text("[].\n")
        secret = self.folder / ".erlang.cookie"
        secret.write_text(cookie)
        secret.chmod(0o400)
        give_to_account(secret)

    @property
    def url(self) -> str:
        """The default vhost, by the tests' user, who may do anything."""
        return self.url_for("/")

    def url_for(self, vhost: str) -> str:
        """Another vhost, by the same user."""
        return f"amqp://{USER}:{self._password}@{self.host}:{self.port}/{quote(vhost, safe='')}"

    def fresh_vhost(self) -> str:
        """The address of a new, empty vhost."""
        if not self._vhosts:
            made = [f"v{secrets.token_hex(4)}" for _ in range(VHOSTS_AT_ONCE)]
            names = ", ".join(f'<<"{name}">>' for name in made)
            self.ctl("eval", MAKE_VHOSTS.format(user=USER, names=names))
            self._vhosts = made
        return self.url_for(self._vhosts.pop())

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node; return what it printed."""
        command: list[str | Path] = [self._scripts / "rabbitmqctl", "--quiet", *arguments]
        return run_as_account(command, folder=self.folder, environment=self._environment)

    def answers(self) -> bool:
        """Whether it speaks AMQP now."""
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as connection:
                connection.sendall(PROTOCOL_HEADER)
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def start(self) -> None:
        """Start it, and wait until it speaks AMQP."""
        self.process.start(self.answers, within=START_SECONDS)

    def stop(self) -> None:
        """End it in good order."""
        self.process.stop(signal.SIGTERM)

    def restart(self) -> None:
        """Stop it in good order and start it again."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End every process of it at once."""
        self.process.kill()

    def pause(self) -> None:
        """Let it hang: its connections stay open, and it answers nobody."""
        self.process.pause()

    def resume(self) -> None:
        """Go on after pause()."""
        self.process.resume()

    def stop_app(self) -> None:
        """Close its connections and its port, quicker than stop(): Erlang runs on."""
        self.ctl("stop_app")

    def start_app(self) -> None:
        """Go on after stop_app()."""
        self.ctl("start_app")

    def close_all_connections(self) -> None:
        """Close every connection, as an administrator does."""
        self.ctl("close_all_connections", "--global", "closed by a test")

    def alarm(self, on: bool) -> None:
        """Let it believe that its memory is full: it then takes nothing more from publishers."""
        self.ctl("set_vm_memory_high_watermark", "0" if on else "0.4")
        eventually_blocking(lambda: self._has_alarm() is on, within=CTL_SECONDS, what=f"the alarm is {on}")

    def disk_alarm(self, on: bool) -> None:
        """Let it believe that its disk is full."""
        self.ctl("set_disk_free_limit", "1000000GB" if on else "1MB")
        eventually_blocking(lambda: self._has_alarm() is on, within=CTL_SECONDS, what=f"the alarm is {on}")

    def take_at_most(self, size: int) -> None:
        """Refuse messages of more bytes, as `max_message_size` in its configuration does."""
        # 3.10 looks into its configuration, and 4.x into what it has made of that.
        both = f"application:set_env(rabbit, max_message_size, {size}), persistent_term:put(max_message_size, {size})."
        self.ctl("eval", both)

    def _has_alarm(self) -> bool:
        return self.ctl("eval", "rabbit_alarm:get_alarms().").strip() != "[]"
