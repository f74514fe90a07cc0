"""Programs under test: real processes whose output lies in a file, and the chat among them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from channels_trunk.testing.waiting import eventually_blocking
from tests.plugins.servers import BOUND_TO_PARENT

ROOT = Path(__file__).resolve().parents[2]
CHAT = ROOT / "examples" / "chat"
START_WITHIN = 40.0
STOP_WITHIN = 20.0


class Program:
    """One process and its children. What it prints is read from a file, so nothing ever waits for us to read."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.command = list(command)
        self._log = log
        self._read = 0  # how much of the output `expect` has passed
        paths = filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(BOUND_TO_PARENT), str(os.getpid()), *self.command],
                cwd=cwd,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(paths),
                    "PYTHONUNBUFFERED": "1",
                    **(environment or {}),
                },
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """All that was printed so far."""
        return self._log.read_text(errors="replace")

    def expect(self, pattern: str, *, within: float = START_WITHIN) -> re.Match[str]:
        """Wait for a line that matches, after the one that was expected last."""
        expression = re.compile(pattern, re.MULTILINE)

        def look() -> re.Match[str] | None:
            ended = self.has_ended()  # asked first: what it printed last is then there
            found = expression.search(self.output, self._read)
            if found is None and ended:
                raise AssertionError(f"{self.command} ended before it printed {pattern!r}:\n{self.output}")
            return found

        try:
            match = eventually_blocking(look, within=within, what=f"a line {pattern!r}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; {self.command} printed:\n{self.output}") from None
        assert match is not None
        self._read = match.end()
        return match

    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def stop(self) -> int:
        """Ask it to stop; return its exit status. Whatever is left of its process group is killed."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_WITHIN)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def running(program: Program) -> Iterator[Program]:
    """Stop the program after the block; it must still be there at the end of it."""
    try:
        yield program
        assert not program.has_ended(), f"{program.command} ended by itself:\n{program.output}"
    finally:
        program.stop()


def is_alive(pid: int) -> bool:
    """Whether the process is there, and not just waiting to be reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it may end while it is read
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class Chat:
    """The chat example as `run.py` runs it."""

    def __init__(self, program: Program, data: Path) -> None:
        self.program = program
        self.data = data
        ready = program.expect(r"^READY (\S+) (\S+)$")
        self.addresses = {"A": ready[1], "B": ready[2]}

    def pid(self, role: str) -> int:
        """The process that plays the role now."""
        return int(re.findall(rf"^PID {role} (\d+)$", self.program.output, re.MULTILINE)[-1])

    def kill(self, role: str) -> int:
        """`kill -9` the process that plays the role; return its id."""
        pid = self.pid(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextlib.contextmanager
    def nothing_restarted(self) -> Iterator[None]:
        """Keep `run.py` itself from doing anything while the block runs."""
        self.program.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.program.process.send_signal(signal.SIGCONT)

    def has_successor(self, role: str, *, of: int) -> bool:
        """Whether another process plays the role now, and answers."""
        answering = re.findall(rf"^UP {role} (\d+)$", self.program.output, re.MULTILINE)
        return int(answering[-1]) != of


@contextlib.contextmanager
def chat(folder: Path, *options: str) -> Iterator[Chat]:
    """Run the chat example on two ports that nobody uses, with its data in the folder."""
    command = [
        sys.executable,
        str(CHAT / "run.py"),
        "--port-a",
        "0",
        "--port-b",
        "0",
        "--data-dir",
        str(folder / "var"),
    ]
    with running(Program([*command, *options], log=folder / "chat.log", cwd=folder)) as program:
        yield Chat(program, folder / "var")
