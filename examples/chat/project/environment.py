"""What the settings take from the process's surroundings."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path


def secret_key(data_dir: Path) -> str:
    """Return the data folder's secret key, making one the first time.

    Several processes start at once, and all must end up with the same key: the
    link either publishes a whole key or fails because another process was first.
    """
    path = data_dir / "secret_key"
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=data_dir, prefix=".secret_key") as draft:  # mode 0600
            draft.write(secrets.token_urlsafe(48))
            draft.flush()
            with contextlib.suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_text()


def allowed_hosts(extra: str) -> list[str]:
    """Return the loopback names, and the blank-separated `extra` ones."""
    return ["localhost", "127.0.0.1", "[::1]", *extra.split()]


def server_process(name: str) -> str:
    """Return the name this server process goes by; its process id if it was given none."""
    return name or str(os.getpid())
