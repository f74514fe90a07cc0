"""Running a server's program: in a folder of its own, as an account that is not root."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from channels_trunk.testing import eventually_blocking
from tests.plugins import leaks
from tests.plugins.servers import keeper
from tools.server_table import Program

BOUND_TO_PARENT = Path(__file__).parent.with_name("bound_to_parent.py")
ACCOUNT = "nobody"  # what servers run as when the tests run as root
START_SECONDS = 30.0
STOP_SECONDS = 30.0


class ServerError(Exception):
    """A server that tests need could not be found, started or stopped."""


def account() -> str:
    """Whom a server runs as: its own user where we are root, else ourselves."""
    return ACCOUNT if os.geteuid() == 0 else ""


@contextlib.contextmanager
def private_folder(name: str) -> Iterator[Path]:
    """A folder that belongs to the server's account. Its path is short, as a Unix socket's must be."""
    folder = Path(tempfile.mkdtemp(prefix=f"trunk-{name}-"))
    give_to_account(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give_to_account(path: Path) -> None:
    """Make a file the account's own."""
    if account():
        owner = pwd.getpwnam(account())
        os.chown(path, owner.pw_uid, owner.pw_gid)


def run_as_account(command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a server's tool to its end, as the server's account; return what it printed."""
    who = {"user": account(), "group": pwd.getpwnam(account()).pw_gid, "extra_groups": []} if account() else {}
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "HOME": str(folder), **(environment or {})},
        **who,  # type: ignore[call-overload]
    )
    if done.returncode:
        raise ServerError(f"{Path(command[0]).name} failed:\n{done.stdout[-2000:]}")
    return str(done.stdout)


def find(program: Program) -> Path:
    """Where the program is."""
    binary = program.find()
    if binary is None:
        raise ServerError(program.remedy())
    return binary


class Process:
    """A server's program. It ends with the test run, whichever thread started it.

    Only one thread at a time may use it.
    """

    def __init__(
        self, command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = [str(part) for part in command]
        self.folder = folder
        self._log = folder / "server.log"
        self._environment = dict(environment or {})
        self._keeper: subprocess.Popen[bytes] | None = None

    def start(self, answers: Callable[[], bool], *, within: float = START_SECONDS) -> None:
        """Start the program and wait until it answers."""
        self.spawn()
        self.wait_until(answers, within=within)

    def wait_until(self, answers: Callable[[], bool], *, within: float = START_SECONDS) -> None:
        """Wait until the program that was started answers."""
        deadline = time.monotonic() + within
        while self.is_running() and time.monotonic() < deadline:
            # The process is asked once more: what answers may be somebody else's server on a port ours did not get.
            if _answers(answers) and self.is_running():
                return
            time.sleep(0.01)
        self.kill()
        raise ServerError(f"did not start: {' '.join(self.command[:1])}\n{self.log()[-2000:]}")

    def spawn(self) -> None:
        """Start the program."""
        launcher = [sys.executable, "-I", "-S", keeper.__file__, str(os.getpid()), str(self.folder), account()]
        environment = {**os.environ, "HOME": str(self.folder), **self._environment}
        with self._log.open("ab") as output:
            self._keeper = subprocess.Popen(
                [*launcher, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self.folder,
                start_new_session=True,  # an interrupt from the terminal is for the test run, which stops its servers
            )

    @property
    def pid(self) -> int:
        """The process to watch; the server is its child."""
        if self._keeper is None:
            raise ServerError("not started")
        return self._keeper.pid

    def log(self) -> str:
        """What the program wrote."""
        return self._log.read_text(errors="replace")

    def is_running(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    def stop(self, number: int) -> None:
        """Ask the program to end, by the signal it knows, and wait until it has."""
        if self.is_running() and not self._ends_by(number, STOP_SECONDS):
            self.kill()
            raise ServerError(f"did not stop: {self.command[0]}\n{self.log()[-2000:]}")

    def crash(self, number: int, *, within: float) -> None:
        """As stop(), but a program that has not ended after so many seconds is killed."""
        if self.is_running() and not self._ends_by(number, within):
            self.kill()

    def _ends_by(self, number: int, within: float) -> bool:
        assert self._keeper is not None
        self.resume()
        os.kill(self.pid, number)
        try:
            self._keeper.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End every process of the server at once, as a power cut would."""
        if self.is_running():
            eventually_blocking(self._all_killed, within=STOP_SECONDS, what="every process of the server ended")

    def _all_killed(self) -> bool:
        # Not the keeper itself: it must wait for the server, which would else be a zombie that still has a process id.
        keeper.signal_all(keeper.descendants(self.pid), signal.SIGKILL)
        return not self.is_running()

    def pause(self) -> None:
        """Let every process of the server hang: connections stay open, and nothing answers."""
        eventually_blocking(self._all_stopped, within=STOP_SECONDS, what="every process of the server stopped")

    def _all_stopped(self) -> bool:
        # Looked at again after each signal: a process may have been started while the others were being stopped.
        pids = keeper.descendants(self.pid)
        keeper.signal_all(pids, signal.SIGSTOP)
        return bool(pids) and all(_state(pid) in "TZ" for pid in keeper.descendants(self.pid))

    def resume(self) -> None:
        """Let the processes go on."""
        keeper.signal_all(keeper.descendants(self.pid), signal.SIGCONT)

    def belongs_to_session(self) -> None:
        """Say that the process outlives the test during which it was started."""
        leaks.belongs_to_session(self.pid)


def _answers(answers: Callable[[], bool]) -> bool:
    try:
        return answers()
    except OSError:
        return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:  # it has ended
        return "Z"
