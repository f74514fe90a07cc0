"""The site in `deployed/`, run in whatever way a test is about."""

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from channels_trunk.testing import eventually_blocking
from tests.acceptance.processes import ROOT, Program, running

PACKAGE = "tests.acceptance.deployed"
ASGI = f"{PACKAGE}.asgi:application"
WSGI = f"{PACKAGE}.wsgi:application"


class Site:
    """Runs Python with the site's settings and a data folder."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"  # the databases, and the layers' files beside them
        self.data.mkdir()
        self._folder = folder
        self._numbers = itertools.count(1)

    def program(self, *arguments: str, **environment: str) -> Program:
        """Start `python ARGUMENTS`; the caller stops it."""
        return self._program(arguments, environment=environment)

    def shell(self, terminal: int) -> Program:
        """Start `manage.py shell` at the terminal; the caller stops it."""
        return self._program(self.management("shell", "--interface", "python"), environment={}, stdin=terminal)

    def running(self, *arguments: str, **environment: str) -> contextlib.AbstractContextManager[Program]:
        """Run `python ARGUMENTS` while a block runs; it must not end before the block."""
        return running(self.program(*arguments, **environment))

    def finished(self, *arguments: str, **environment: str) -> str:
        """Run `python ARGUMENTS` to its end, which must be a good one; return what it printed."""
        program = self.program(*arguments, **environment)
        try:
            eventually_blocking(program.has_ended, within=50, what=f"the end of {arguments}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it printed:\n{program.output}") from None
        finally:
            program.stop()
        assert program.process.returncode == 0, program.output
        return program.output

    def script(self, name: str) -> str:
        """Run one of the site's scripts to its end; return what it printed."""
        return self.finished("-m", f"{PACKAGE}.{name}")

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run `manage.py ARGUMENTS` to its end; return what it printed."""
        return self.finished(*self.management(*arguments), **environment)

    def management(self, *arguments: str) -> list[str]:
        """What Python gets for `manage.py ARGUMENTS`."""
        return ["-m", f"{PACKAGE}.manage", *arguments]

    def files(self) -> list[str]:
        """The names of all that lies in the data folder."""
        return sorted(path.name for path in self.data.iterdir())

    def files_after_a_visit(self) -> list[str]:
        """The same, after one more process has had the time to clear up what others left that ended without a word."""
        self.script("visit")
        return self.files()

    def _program(
        self, arguments: Sequence[str], *, environment: dict[str, str], stdin: int = subprocess.DEVNULL
    ) -> Program:
        log = self._folder / f"{next(self._numbers)}.log"
        own = {
            "DJANGO_SETTINGS_MODULE": f"{PACKAGE}.settings",
            "DEPLOYED_DATA_DIR": str(self.data),
            # Python warns of forks in processes with threads; that they work is what the tests are about.
            "PYTHONWARNINGS": "ignore:This process:DeprecationWarning",
        }
        return Program([sys.executable, *arguments], log=log, cwd=ROOT, environment=own | environment, stdin=stdin)
