"""Other versions of a package for single peers: a folder that their processes find before what is installed."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".venv-peers"


class Overlay:
    """The folder of one peer."""

    def __init__(self, name: str, requirements: Sequence[str]) -> None:
        self.folder = FOLDER / name
        self._requirements = tuple(requirements)
        self._stamp = self.folder / "installed"

    def install(self) -> str | None:
        """Fill the folder on first use; say why that is impossible, if it is."""
        wanted = f"{sys.version}\n{' '.join(self._requirements)}\n"
        if self._stamp.is_file() and self._stamp.read_text() == wanted:
            return None
        shutil.rmtree(self.folder, ignore_errors=True)
        print(f"installing {' '.join(self._requirements)} into {self.folder.parent.name}", file=sys.stderr)
        # Without what they depend on: that is installed, and must be the same for all peers.
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*pip, "--target", str(self.folder), *self._requirements], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"pip could not install {' '.join(self._requirements)}"
        self._stamp.write_text(wanted)
        return None

    def activate(self) -> None:
        """Let this process find it first."""
        sys.path.insert(0, str(self.folder))

    def versions(self) -> dict[str, str]:
        """What is in it."""
        found = importlib.metadata.distributions(path=[str(self.folder)])
        return {f"{each.name} ({self.folder.name})": each.version for each in found}
