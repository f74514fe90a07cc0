"""What every test stands on: plugins, Hypothesis profiles and the smallest Django."""

import os
import signal

import django
import hypothesis
import pytest
from django.conf import settings

# In this order: a plugin that another one imports comes before it.
pytest_plugins = [
    "tests.plugins.clock",
    "tests.plugins.leaks",
    "tests.plugins.logs",
    "tests.plugins.proxy",
    "channels_trunk.testing.cuts.plugin",
    "channels_trunk.testing.model.plugin",
    "tests.plugins.servers",
    "tests.plugins.django_databases",
    "tests.plugins.stacks",
]

# What a shell starts in the background ignores SIGINT, and so would the programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The machine's speed is no property of the code. In CI the same examples are tried in every run.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure(config: pytest.Config) -> None:
    """Configure Django here and not by an environment variable: child processes bring settings of their own."""
    if not settings.configured:
        settings.configure(
            SECRET_KEY="tests only",
            INSTALLED_APPS=["channels_trunk"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            CHANNEL_LAYERS={},
            USE_TZ=True,
        )
        django.setup()
