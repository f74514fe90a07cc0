"""The files and commands of one page, for its scenario to use up in order."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.processes import Program
from tests.docs.project import Project


@dataclass(kw_only=True)
class Story:
    """A scenario takes every file and every command once."""

    folder: Path
    files: dict[str, str]
    commands: list[str]
    fixture: Callable[[str], Any]
    """A fixture of pytest's, by its name."""

    def write(self, project: Project, *paths: str) -> None:
        """Write files of the page: those named, or all that are left."""
        for path in paths or list(self.files):
            project.write(path, self.files.pop(path))

    def append(self, project: Project, path: str) -> None:
        """Add what the page says to the end of a file."""
        project.append(path, self.files.pop(path))

    def command(self, begins: str) -> list[str]:
        """The next command, which must begin so, without the `python` in front."""
        line = self.commands.pop(0)
        assert line.startswith(begins), line
        return shlex.split(line)[1:] if line.startswith("python ") else shlex.split(line)

    def run(self, project: Project, begins: str) -> str:
        """Run the next command to its end; return what it printed."""
        words = self.command(begins)
        return project.python(*(["-m", "django", *words[1:]] if words[0] == "django-admin" else words))

    def start(self, project: Project, *words: str) -> Program:
        """Start `python WORDS`; the caller stops it."""
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        environment = dict(project.environment())
        return Program([sys.executable, *words], log=log, cwd=project.folder, environment=environment)
