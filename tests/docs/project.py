"""A tiny Django project in a folder, for settings, Python and files from the pages."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.docs.markdown import ROOT

BASE_SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent
SECRET_KEY = "tests only"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["channels", "channels_trunk"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels_trunk.layers.SQLiteChannelLayer"}}
USE_TZ = True
"""


class Project:
    """Runs Python in the folder, where `settings.py` may be what a page says."""

    def __init__(
        self, folder: Path, *, settings_module: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._settings_module = settings_module
        self._environment = environment or {}

    @classmethod
    def tiny(cls, folder: Path, *, settings: str = "", environment: Mapping[str, str] | None = None) -> Self:
        """A project that is nothing but settings: the usual ones, and what a page adds."""
        project = cls(folder, settings_module="settings", environment=environment)
        project.write("settings.py", BASE_SETTINGS + settings)
        return project

    def write(self, path: str, text: str) -> Path:
        """Write a file, and the folders it needs."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return target

    def append(self, path: str, text: str) -> None:
        """Add to the end of a file that is there."""
        target = self.folder / path
        target.write_text(target.read_text(encoding="utf-8") + text, encoding="utf-8")

    def environment(self) -> Mapping[str, str]:
        """The variables for a child process: nothing of the test's own Django."""
        own = {
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT), str(ROOT / "src")]),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self._environment,
        }
        others = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        if self._settings_module is not None:
            own["DJANGO_SETTINGS_MODULE"] = self._settings_module
        return others | own

    def python(self, *arguments: str) -> str:
        """Run `python ARGUMENTS` to its end, which must be a good one; return what it printed, errors last."""
        done = self._finished(*arguments)
        return done.stdout + done.stderr

    def _finished(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done

    def run_steps(self, steps: Sequence[tuple[str, int, str]]) -> None:
        """Run pieces of code, each with the file and the line it stands in, one after the other in one interpreter."""
        self.python("-m", "tests.docs.run_steps", str(self.write("steps.json", json.dumps(steps))))

    def try_settings(self) -> dict[str, Any]:
        """Have Django check the settings, and use each layer; return what was found."""
        found: dict[str, Any] = json.loads(self._finished("-m", "tests.docs.try_settings").stdout)
        return found
