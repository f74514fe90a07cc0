"""Programs of another Debian release: brought by apt, unpacked beside the system, run by their own loader."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools import debian_folder, ensure_servers
from tools.server_table import Program

APT = r"""#!/bin/sh
case "$*" in
indextargets*) printf 'main-updates http://mirror.invalid/updates\nmain http://mirror.invalid/debian\n';;
*update) for word; do case "$word" in Dir::Etc::SourceList=*) cp "${word#*=}" "$LOG";; esac; done;;
*--download-only*install\ engine) for word; do
    case "$word" in Dir::Cache::Archives=*) touch "${word#*=}/engine.deb" "${word#*=}/libc6.deb";; esac
done;;
*) echo "unknown: $*" >&2; exit 1;;
esac
"""
DPKG = r"""#!/bin/sh
lib="$3/usr/lib/x86_64-linux-gnu"
case "$2" in
*libc6.deb) mkdir -p "$lib"; printf '#!/bin/sh\necho loader "$@"\n' > "$lib/ld-linux-x86-64.so.2"; chmod 755 "$lib"/*;;
*engine.deb)
    mkdir -p "$3/usr/lib/erlang/bin"
    printf '\177ELF' > "$3/usr/lib/erlang/bin/engine"
    printf '#!/bin/sh\necho ROOT=/usr/lib/erlang\n' > "$3/usr/lib/erlang/bin/erl"
    chmod 755 "$3/usr/lib/erlang/bin"/*;;
esac
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, and an apt that brings two packages."""
    for name, script in (("apt-get", APT), ("dpkg-deb", DPKG)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "keyring").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("LOG", str(tmp_path / "sources"))
    monkeypatch.setattr(debian_folder, "KEYRING", tmp_path / "keyring")
    monkeypatch.setattr(debian_folder, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def engine(cache: Path) -> Program:
    folder = f"{cache}/next/usr/lib/erlang/bin"
    return Program(name="engine-2", executables=("engine",), packages={}, folders=(folder,), suite="next")


def test_a_program_of_another_release_is_brought(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = engine(cache)
    monkeypatch.setattr(ensure_servers, "PROGRAMS", {"engine-2": row})
    assert row.find() is None
    assert "python -m tools.ensure_servers engine-2" in row.remedy()
    assert ensure_servers.main([]) == 0
    path = row.find()
    assert path == cache / "next/usr/lib/erlang/bin/engine"
    assert "http://mirror.invalid/debian\nSuites: next" in (cache.parent / "sources").read_text()
    # Its own loader runs it, with the libraries beside that one, and the program believes that it has its own name.
    ran = subprocess.run([path, "a b", "c"], capture_output=True, text=True, check=True).stdout.split()
    libraries = f"{cache}/next/usr/lib/x86_64-linux-gnu"
    assert ran == ["loader", "--library-path", libraries, "--argv0", str(path), f"{path}.elf", "a", "b", "c"]
    root = subprocess.run([path.with_name("erl")], capture_output=True, text=True, check=True).stdout
    assert root == f"ROOT={cache}/next/usr/lib/erlang\n"
    assert [entry.name for entry in cache.iterdir()] == ["next"]


def test_a_failure_leaves_nothing_half_done(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (cache.parent / "dpkg-deb").write_text("#!/bin/sh\necho 'no room' >&2; exit 2\n")
    monkeypatch.setattr(ensure_servers, "PROGRAMS", {"engine-2": engine(cache)})
    assert ensure_servers.main([]) == 1
    said = capsys.readouterr().err
    assert "no room" in said
    assert "engine-2 is missing" in said
    assert list(cache.iterdir()) == []


def test_a_system_without_apt_is_told_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(debian_folder.NotToBeHad, match="apt-get"):
        debian_folder.unpack("next", ("engine",))


def test_root_keeps_it_where_other_accounts_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert debian_folder.cache_folder() == Path("/var/cache/channels-trunk")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/cache")
    assert debian_folder.folder_of("sid") == Path("/home/me/cache/channels-trunk/sid")
