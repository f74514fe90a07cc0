"""Makes the tables of Django apps: `python -m trunkbench.django_tables APP ...`; the environment says where."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

FILE = "TRUNKBENCH_FILE"


def set_up_django(apps: Sequence[str], databases: Mapping[str, Mapping[str, object]]) -> None:
    """The smallest Django that these apps run in; once for each process."""
    import django
    from django.conf import settings

    if apps and not settings.configured:
        settings.configure(INSTALLED_APPS=list(apps), DATABASES=dict(databases), SECRET_KEY="x", USE_TZ=True)
        django.setup()


def sqlite_database() -> dict[str, dict[str, object]]:
    """DATABASES for the file of this measurement, as channels-lite's documentation has it; {} where there is none."""
    if (path := os.environ.get(FILE)) is None:
        return {}
    options = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
    }
    return {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": options}}


def make_sqlite_tables(path: Path, app: str) -> None:
    """Have a new file with the app's tables, for this measurement's processes."""
    template = path.with_name(f"template_{app}.sqlite3")
    if not template.exists():
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), FILE: str(template)}
        subprocess.run([sys.executable, "-m", "trunkbench.django_tables", app], check=True, env=environment)
    shutil.copyfile(template, path)
    os.environ[FILE] = str(path)  # they inherit it


def main() -> None:
    """Run the migrations."""
    from django.core.management import call_command

    if databases := sqlite_database():
        set_up_django(sys.argv[1:], databases)
        call_command("migrate", verbosity=0)
        return
    names = ("NAME", "USER", "PASSWORD", "HOST", "PORT")
    database = {name: os.environ[f"TRUNKBENCH_{name}"] for name in names}
    database["ENGINE"] = "django.db.backends.postgresql"
    set_up_django(sys.argv[1:], {"default": database})
    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    main()
