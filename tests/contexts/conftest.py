"""Small programs that use a layer in a strange context, on every engine."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

ROOT = Path(__file__).parent.parent.parent
ENGINES = ("memory", "sqlite", "database", "postgres", "rabbitmq")
SHARED = ("sqlite", "database", "postgres", "rabbitmq")
"""Those that several processes share."""

_PROLOGUE = """
import asyncio, os, sys, threading, time
from django.conf import settings
FOLDER, URL = {folder!r}, {url!r}
from channels_trunk import config
settings.configure(
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER + "/site.sqlite3"}}}},
    INSTALLED_APPS=["channels_trunk"],
    CHANNEL_LAYERS={{"default": config(URL)}},
    USE_TZ=True,
)
import django
django.setup()
from django.core.management import call_command
if URL.startswith("database:"):
    call_command("migrate", verbosity=0)
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_trunk.exceptions import ChannelLayerError
HELLO = {{"type": "hello"}}
layer = get_channel_layer()
other = type(layer)(**config(URL)["CONFIG"])

def works():
    channel = other.sync.new_channel()
    other.sync.group_add("proof", channel)
    layer.sync.group_send("proof", HELLO)
    assert other.sync.receive(channel, timeout=40) == HELLO
    layer.sync.send(channel, HELLO)
    assert other.sync.receive(channel, timeout=40) == HELLO
    other.sync.group_discard("proof", channel)

async def works_here():
    channel = await other.new_channel()
    await other.group_add("proof", channel)
    await layer.group_send("proof", HELLO)
    async with asyncio.timeout(40):
        assert await other.receive(channel) == HELLO
    await layer.send(channel, HELLO)
    async with asyncio.timeout(40):
        assert await other.receive(channel) == HELLO
    await other.group_discard("proof", channel)

"""


@dataclass(frozen=True)
class Engine:
    """One engine for one test."""

    name: str
    url: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def program(self, code: str) -> str:
        """The text of a program with `layer`, `other`, `works` and `works_here`."""
        return _PROLOGUE.format(folder=str(self.folder), url=self.url) + textwrap.dedent(code)

    def run(self, code: str, *, python: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end; `python` are options of the interpreter."""
        script = self.folder / "program.py"
        script.write_text(self.program(code))
        return subprocess.run(
            [sys.executable, *python, str(script)],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **self.environment, **environment},
        )

    def says(self, code: str, *, python: Sequence[str] = (), **environment: str) -> str:
        """What it prints; nothing else goes wrong."""
        done = self.run(code, python=python, **environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout


MakeEngine = Callable[[str], Engine]


@pytest.fixture
def make_engine(tmp_path: Path, request: pytest.FixtureRequest) -> MakeEngine:
    def make(name: str) -> Engine:
        if name == "postgres":
            parts = conninfo_to_dict(request.getfixturevalue("postgres_database"))
            user, password = quote(str(parts["user"])), quote(str(parts["password"]))
            url = f"postgresql://{user}:{password}@{parts['host']}:{parts['port']}/{parts['dbname']}"
            return Engine(name, url, tmp_path)
        if name == "rabbitmq":
            return Engine(name, request.getfixturevalue("rabbit").fresh_vhost(), tmp_path)
        urls = {
            "memory": "memory://",
            "sqlite": f"sqlite:///{tmp_path}/layer.sqlite3",
            "database": "database://default",
        }
        return Engine(name, urls[name], tmp_path)

    return make


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, make_engine: MakeEngine) -> Engine:
    return make_engine(request.param)


@pytest.fixture(params=SHARED)
def shared_engine(request: pytest.FixtureRequest, make_engine: MakeEngine) -> Engine:
    return make_engine(request.param)
