"""Makes the tables of Django apps: `python -m trunkbench.django_tables APP ...`; the environment says where."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence


def set_up_django(apps: Sequence[str], databases: Mapping[str, Mapping[str, str]]) -> None:
    """The smallest Django that these apps run in; once for each process."""
    import django
    from django.conf import settings

    if apps and not settings.configured:
        settings.configure(INSTALLED_APPS=list(apps), DATABASES=dict(databases), SECRET_KEY="x", USE_TZ=True)
        django.setup()


def main() -> None:
    """Run the migrations."""
    from django.core.management import call_command

    names = ("NAME", "USER", "PASSWORD", "HOST", "PORT")
    database = {name: os.environ[f"TRUNKBENCH_{name}"] for name in names}
    database["ENGINE"] = "django.db.backends.postgresql"
    set_up_django(sys.argv[1:], {"default": database})
    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    main()
