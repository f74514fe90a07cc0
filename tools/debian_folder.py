"""Programs of another Debian release, each release in a folder of its own, beside the system and without root's rights.

apt resolves and checks the packages as it does for the system, with lists, cache and status file of its own; they are
unpacked, and never installed. What was built for another C library runs by that library's own loader. Standard library
only.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
COMPILED = ("usr/lib/erlang/bin/*", "usr/lib/erlang/erts-*/bin/*", "usr/lib/erlang/lib/os_mon-*/priv/bin/*")
ELF = b"\x7fELF"


def cache_folder() -> Path:
    """Where folders are kept for every clone. A server runs as an account without rights, which cannot enter root's."""
    if os.geteuid() == 0:
        return Path("/var/cache/channels-trunk")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "channels-trunk"


def folder_of(suite: str) -> Path:
    """Where a release's programs are, or would be."""
    return cache_folder() / suite


class NotToBeHad(Exception):
    """Why a release's packages cannot be brought."""


def unpack(suite: str, packages: tuple[str, ...]) -> None:
    """Bring packages and all that they need into the suite's folder; it is there as a whole or not at all."""
    target = folder_of(suite)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{suite}-", dir=target.parent) as name:
        work = Path(name)
        root = work / "root"
        root.mkdir(mode=0o755)
        for package in _download(suite, packages, work):
            _run("dpkg-deb", "--extract", str(package), str(root))
        _make_runnable(root, target)
        shutil.rmtree(target, ignore_errors=True)
        root.rename(target)


def _download(suite: str, packages: tuple[str, ...], work: Path) -> list[Path]:
    if not shutil.which("apt-get") or not KEYRING.exists():
        raise NotToBeHad("that needs Debian's apt-get and debian-archive-keyring")
    for folder in ("lists/partial", "archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()  # nothing is installed there: so all that is needed is brought
    source = f"Types: deb\nURIs: {_mirror()}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n"
    (work / "suite.sources").write_text(source)
    settings = {
        "Dir::State": work,
        "Dir::State::Lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work,
        "Dir::Cache::Archives": work / "archives",
        "Dir::Etc::SourceList": work / "suite.sources",
        "Dir::Etc::SourceParts": "/dev/null",
        "APT::Sandbox::User": "",  # its own account could not write here
        "Debug::NoLocking": "true",
    }
    options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    _run("apt-get", *options, "-qq", "update")
    _run("apt-get", *options, "-qq", "-y", "--no-install-recommends", "--download-only", "install", *packages)
    return sorted((work / "archives").glob("*.deb"))


def _mirror() -> str:
    """The server of Debian's packages that this system uses."""
    asked = ("indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages", "Component: main")
    rows = [line.split() for line in _run("apt-get", *asked).splitlines()]
    # The others are for updates, security and backports.
    found = next((uri for release, uri in rows if "-" not in release), None)
    if found is None:
        raise NotToBeHad("apt's sources name no Debian release")
    return found


def _make_runnable(root: Path, target: Path) -> None:
    """Put a script in the place of each program that would look for the system's C library."""
    loader = next(root.glob("usr/lib/*-linux-gnu*/ld-linux-*.so.*"))
    at_target = target / loader.relative_to(root)
    for pattern in COMPILED:
        for program in sorted(root.glob(pattern)):
            if program.is_symlink() or program.read_bytes()[:4] != ELF:
                continue
            real = program.with_name(f"{program.name}.elf")
            program.rename(real)
            # escript goes by its own name, and looks for erl beside itself.
            name = ("--argv0", target / program.relative_to(root))
            words = [at_target, "--library-path", at_target.parent, *name, target / real.relative_to(root)]
            program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
            program.chmod(0o755)
    for script in (*root.glob("usr/lib/erlang/bin/erl"), *root.glob("usr/lib/erlang/erts-*/bin/erl")):
        if not script.is_symlink():
            script.write_text(script.read_text().replace("/usr/lib/erlang", str(target / "usr/lib/erlang")))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotToBeHad(f"{shlex.join(command)} failed: {(done.stderr or done.stdout).strip()[-1000:]}")
    return done.stdout
