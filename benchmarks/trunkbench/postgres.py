"""A private PostgreSQL, and databases in it."""

from __future__ import annotations

import glob
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from trunkbench.django_tables import FILE
from trunkbench.services import ServiceError, die_with_parent, free_port

SUPERUSER = "postgres"
# Not in anybody's PATH on Debian.
ELSEWHERE = ("/usr/lib/postgresql/*/bin", "/usr/libexec/postgresql*", "/opt/homebrew/opt/postgresql@*/bin")
# What a server is made with; everything else is its default, above all that a commit waits for the disk.
OPTIONS = {"listen_addresses": "127.0.0.1", "max_connections": "200", "dynamic_shared_memory_type": "mmap"}


def find_binary() -> Path:
    """The program itself, and no link to it: beside it are its tools."""
    folders = [os.environ.get("PATH", os.defpath), *(f for pattern in ELSEWHERE for f in sorted(glob.glob(pattern)))]
    binary = shutil.which("postgres", path=os.pathsep.join(folders))
    if binary is None:
        raise ServiceError("postgres is not installed; install it or choose other --layers")
    return Path(binary).resolve()


class PostgresServer:
    """A postgres on a free loopback port, in a folder of its own, that ends with the benchmark."""

    def __init__(self, base: str | None, options: dict[str, str]) -> None:
        self.binary = find_binary()
        # Not in the benchmark's own folder, where the server's account may not look.
        self._folder = Path(tempfile.mkdtemp(prefix="trunkbench-postgres-", dir=base))
        self._account = self._give_away()
        self._password = secrets.token_hex(8)
        self._databases: set[str] = set()
        self._templates: set[str] = set()
        try:
            self._initdb()
            self.port = free_port()
            self._process = self._start(OPTIONS | options)
            self._wait(within=30)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _give_away(self) -> dict[str, Any]:
        """Who runs it: PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return {}
        account = pwd.getpwnam("nobody")
        os.chown(self._folder, account.pw_uid, account.pw_gid)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def _initdb(self) -> None:
        password = self._folder / "password"
        password.write_text(self._password)
        password.chmod(0o644)  # the folder is private, and its account must read this
        command = [str(self.binary.with_name("initdb")), "-D", str(self._folder / "data"), "--encoding=UTF8"]
        command += ["--no-locale", "--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={password}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._folder, check=False, **self._account)
        if done.returncode:
            raise ServiceError(f"initdb failed: {done.stderr[-500:]}")

    def _start(self, options: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [str(self.binary), "-D", str(self._folder / "data"), "-p", str(self.port)]
        command += ["-c", f"unix_socket_directories={self._folder}"]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self._folder / "server.log").open("wb") as log:
            # This process has one thread while it starts servers, so preexec_fn is safe.
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                preexec_fn=die_with_parent,  # noqa: PLW1509
                **self._account,
            )

    def _wait(self, *, within: float) -> None:
        give_up = time.monotonic() + within
        while time.monotonic() < give_up and self._process.poll() is None:
            try:
                self.execute(sql.SQL("SELECT 1"))
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        self.stop()
        raise ServiceError("postgres did not start")

    def place(self, database: str) -> dict[str, str]:
        """Where a database is, in the words of Django's DATABASES."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database,
            "USER": SUPERUSER,
            "PASSWORD": self._password,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
        }

    def dsn(self, database: str) -> str:
        """Where a database is, in libpq's words."""
        names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
        place = self.place(database)
        return psycopg.conninfo.make_conninfo("", **{name: place[key] for name, key in names.items()})

    def execute(self, statement: sql.SQL | sql.Composed) -> list[tuple[Any, ...]]:
        """Run one statement in the server's own database."""
        with psycopg.connect(self.dsn(SUPERUSER), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def fresh_database(self, name: str, *, apps: Sequence[str] = ()) -> dict[str, str]:
        """An empty database, or one with the tables of these Django apps."""
        template = self._migrated(apps) if apps else "template1"
        self._create(name, template)
        self._databases.add(name)
        return self.place(name)

    def _migrated(self, apps: Sequence[str]) -> str:
        """A database with the tables of these apps, to copy."""
        name = "template_" + "_".join(apps)
        if name not in self._templates:
            self._create(name, "template1")
            parts = self.place(name)
            # A process of its own: Django's settings are made once for each.
            command = [sys.executable, "-m", "trunkbench.django_tables", *apps]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TRUNKBENCH_PASSWORD": self._password}
            environment |= {f"TRUNKBENCH_{key}": parts[key] for key in ("NAME", "USER", "HOST", "PORT")}
            environment.pop(FILE, None)  # of a layer on SQLite that was measured before
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
                raise ServiceError(f"the tables could not be made: {done.stderr[-500:]}")
            self._templates.add(name)
        return name

    def _create(self, name: str, template: str) -> None:
        names = sql.Identifier(name), sql.Identifier(template)
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))

    def drop_database(self, name: str) -> None:
        """Remove it if it is there, with whoever is still connected to it."""
        if name in self._databases:
            self._databases.remove(name)
            self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def version(self) -> str:
        """Such as "15.4"."""
        return str(self.execute(sql.SQL("SHOW server_version"))[0][0]).partition(" ")[0]

    def process_ids(self) -> list[int]:
        """The server's processes, those of its connections among them."""
        parent = self._process.pid
        return [parent, *(pid for pid, of in _parents() if of == parent)]

    def stop(self) -> None:
        """End it at once; it holds nothing worth saving."""
        self._process.send_signal(signal.SIGQUIT)  # an immediate shutdown leaves no shared memory behind
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _parents() -> list[tuple[int, int]]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found.append((int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])))
        except OSError:
            continue  # it has ended
    return found
