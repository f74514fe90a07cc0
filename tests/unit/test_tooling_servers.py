"""The table of servers, their installation, and the private servers of a test run."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from channels_trunk.testing import eventually_blocking
from tests.plugins import servers
from tests.plugins.servers import keeper
from tools import ensure_servers
from tools.server_table import PROGRAMS, REDIS, Program

ABSENT = Program(
    name="absent",
    executables=("no-such-program",),
    packages={"apt-get": ("absent-server",), "brew": ("absent",)},
    url_variable="CHANNELS_TRUNK_ABSENT_URL",
)


def test_every_program_has_a_package_for_every_manager() -> None:
    managers = {manager.name for manager in ensure_servers.MANAGERS}
    systems = {name: program for name, program in PROGRAMS.items() if not (program.npm or program.suite)}
    assert {name: set(program.packages) for name, program in systems.items()} == dict.fromkeys(systems, managers)


def test_a_program_is_found_in_a_folder_beside_path(tmp_path: Path) -> None:
    (tmp_path / "15" / "bin").mkdir(parents=True)
    program = tmp_path / "15" / "bin" / "engine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    row = Program(name="engine", executables=("engine",), packages={}, folders=(f"{tmp_path}/*/bin",))
    assert row.find() == program


def test_a_missing_program_says_what_to_do() -> None:
    assert ABSENT.find() is None
    remedy = ABSENT.remedy()
    assert "apt-get: absent-server" in remedy
    assert "docker compose up -d absent" in remedy
    assert "CHANNELS_TRUNK_ABSENT_URL" in remedy


def test_the_run_fails_when_a_program_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ensure_servers, "PROGRAMS", {"absent": ABSENT})
    monkeypatch.setattr(ensure_servers, "MANAGERS", ())
    assert ensure_servers.main([]) == 1
    assert "absent is missing" in capsys.readouterr().err


def test_a_missing_program_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = Program(name="engine", executables=("engine",), packages={"maker": ("engine",)}, folders=(str(tmp_path),))
    maker = tmp_path / "maker"
    maker.write_text(f'#!/bin/sh\n[ "$*" = "add engine" ] && cp "$0" "{tmp_path}/engine"\n')
    maker.chmod(0o755)
    manager = ensure_servers.PackageManager(name="maker", install=("maker", "add"), needs_root=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(ensure_servers, "PROGRAMS", {"engine": program})
    monkeypatch.setattr(ensure_servers, "MANAGERS", (manager,))
    assert ensure_servers.main([]) == 0
    assert program.find() == tmp_path / "engine"


def test_a_bundle_is_found_in_its_own_folder_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere, bundle = tmp_path / "bin", tmp_path / "bundle"
    for folder in (elsewhere, bundle):
        folder.mkdir()
    (elsewhere / "engine").write_text("#!/bin/sh\n")
    (elsewhere / "engine").chmod(0o755)
    monkeypatch.setenv("PATH", str(elsewhere), prepend=os.pathsep)
    program = Program(name="engine", executables=("engine",), packages={}, folders=(str(bundle),), npm="engine@1.0.0")
    assert program.find() is None
    assert "npm: engine@1.0.0" in program.remedy()
    (elsewhere / "engine").rename(bundle / "engine")
    assert program.find() == bundle / "engine"


def test_a_bundle_is_installed_with_npm_into_the_projects_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundles = tmp_path / "bundles"
    program = Program(name="engine", executables=("engine",), packages={}, folders=(str(bundles),), npm="engine@1.0.0")
    npm = tmp_path / "npm"
    npm.write_text(
        f'#!/bin/sh\ncase "$*" in "install "*"--prefix {bundles} engine@1.0.0") cp "$0" "{bundles}/engine";; esac\n'
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(ensure_servers, "PROGRAMS", {"engine": program})
    monkeypatch.setattr(ensure_servers, "MANAGERS", ())
    monkeypatch.setattr(ensure_servers, "BUNDLES", bundles)
    assert ensure_servers.main([]) == 0
    assert program.find() == bundles / "engine"


def test_the_links_of_a_bundle_are_made_once_and_for_all(tmp_path: Path) -> None:
    library = tmp_path / "native" / "lib" / "engine.so.1.2"
    library.parent.mkdir(parents=True)
    library.write_text("library")
    listing = tmp_path / "native" / "pg-symlinks.json"
    listing.write_text('[{"source": "native/lib/engine.so.1.2", "target": "native/lib/engine.so.1"}]')
    for _ in range(2):
        ensure_servers.link_libraries(listing)
        assert (library.parent / "engine.so.1").readlink() == Path("engine.so.1.2")


def test_packages_start_no_services(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with ensure_servers.services_off(str(policy), prefix=()):
        assert subprocess.run([policy], check=False).returncode == 101
    assert not policy.exists()


def test_a_policy_of_the_machines_own_is_left_alone(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    with ensure_servers.services_off(str(policy), prefix=()):
        assert policy.read_text() == "theirs"
    assert policy.read_text() == "theirs"


def test_nothing_is_installed_without_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    maker = tmp_path / "maker"
    maker.write_text(f'#!/bin/sh\ntouch "{tmp_path}/called"\n')
    maker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(ensure_servers, "root_prefix", lambda: None)
    monkeypatch.setattr(ensure_servers, "PROGRAMS", {"absent": ABSENT})
    monkeypatch.setattr(ensure_servers, "MANAGERS", (ensure_servers.PackageManager(name="maker", install=("maker",)),))
    assert ensure_servers.main([]) == 1
    assert not (tmp_path / "called").exists()


def test_a_server_that_the_environment_offers_needs_no_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ensure_servers, "PROGRAMS", {"absent": ABSENT})
    monkeypatch.setattr(ensure_servers, "MANAGERS", ())
    monkeypatch.setenv("CHANNELS_TRUNK_ABSENT_URL", "absent://user:secret@here")
    assert ensure_servers.main(["absent"]) == 0
    said = capsys.readouterr().out
    assert "CHANNELS_TRUNK_ABSENT_URL" in said
    assert "secret" not in said


def test_packages_of_all_that_is_missing_go_into_one_command() -> None:
    apt = ensure_servers.MANAGERS[0]
    command = ensure_servers.install_command(apt, [REDIS, ABSENT], prefix=("sudo", "-n"))
    assert command[:3] == ("sudo", "-n", "apt-get")
    assert command[-2:] == ("redis-server", "absent-server")


def test_a_server_without_its_program_is_an_error() -> None:
    with pytest.raises(servers.ServerError, match="absent is missing"):
        servers.find(ABSENT)


def test_a_server_that_does_not_start_shows_its_log() -> None:
    with servers.private_folder("none") as folder, pytest.raises(servers.ServerError, match="no room"):
        servers.Process(["/bin/sh", "-c", "echo no room; exit 1"], folder=folder).start(lambda: False)


def test_a_program_that_cannot_be_run_is_named() -> None:
    with servers.private_folder("none") as folder, pytest.raises(servers.ServerError, match="/no/such/program"):
        servers.Process(["/no/such/program"], folder=folder).start(lambda: False)


@contextmanager
def deaf_server() -> Iterator[servers.Process]:
    """A program that does not heed SIGTERM."""
    with servers.private_folder("deaf") as folder:
        ready = folder / "ready"
        deaf = servers.Process(
            ["/bin/sh", "-c", f"trap '' TERM; : > {ready}; while :; do sleep 1; done"], folder=folder
        )
        deaf.start(ready.exists)
        yield deaf
        assert not deaf.is_running()


def test_a_server_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.plugins.servers.process.STOP_SECONDS", 1)
    with deaf_server() as deaf, pytest.raises(servers.ServerError, match="did not stop"):
        deaf.stop(signal.SIGTERM)


def test_a_server_that_does_not_crash_in_time_is_killed() -> None:
    with deaf_server() as deaf:
        deaf.crash(signal.SIGTERM, within=0.1)


def test_redis_answers_on_its_address(redis_url: str) -> None:
    host, port = redis_url.removeprefix("redis://").split("/")[0].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(16).startswith(b"+PONG")


RUN = """
import sys, time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tests.plugins.servers import Process, keeper
server = Process(["/bin/sh", "-c", "sleep 300 & sleep 300; true"], folder=Path(sys.argv[1]))
server.start(lambda: len(keeper.descendants(server.pid)) == 3)
print(server.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_a_program_dies_with_a_killed_run() -> None:
    program = (
        "import subprocess, sys, os, time\n"
        "child = subprocess.Popen([sys.executable, sys.argv[1], str(os.getpid()), '/bin/sleep', '300'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    run = [sys.executable, "-c", program, str(servers.BOUND_TO_PARENT)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        command = Path(f"/proc/{child}/cmdline")
        eventually_blocking(lambda: command.read_bytes().startswith(b"/bin/sleep"), within=10)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    eventually_blocking(lambda: not is_running(child), within=10)


@pytest.mark.skipif(sys.platform != "linux", reason="the processes are read from /proc")
def test_a_server_and_its_folder_go_with_a_killed_run() -> None:
    with servers.private_folder("orphan") as folder:
        run = [sys.executable, "-c", RUN, str(folder)]
        with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pids = keeper.descendants(int(parent.stdout.readline()))
            parent.kill()
        eventually_blocking(lambda: not any(map(is_running, pids)), within=10)
        eventually_blocking(lambda: not folder.exists(), within=10)


def is_running(pid: int) -> bool:
    """A zombie that nobody has waited for yet does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:  # it may end while it is read
        return False
