"""Live-server test cases: the server, in another process or thread, and the test meet in the test database."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.project import Project
from tests.integration.database.test_django_tests import entry_of
from tests.plugins.django_databases import sqlite_entry

SETTINGS = """
import json, os
ALIAS = os.environ["SITE_ALIAS"]
DATABASES = json.loads(os.environ["SITE_DATABASES"])
DATABASE_ROUTERS = ["channels_trunk.routers.TrunkRouter"]
BACKEND = "channels_trunk.layers.DatabaseChannelLayer"
CHANNEL_LAYERS = {"default": {"BACKEND": BACKEND, "CONFIG": {"database": ALIAS, "polling_interval": 0.01}}}
ROOT_URLCONF = "site_urls"
ASGI_APPLICATION = "site_asgi.application"
STATIC_URL = "static/"
"""
URLS = """
import os
from channels.layers import get_channel_layer
from django.http import HttpResponse
from django.urls import path

def call(request):
    get_channel_layer().sync.group_send("party", {"type": "party.said", "pid": os.getpid()})
    return HttpResponse(str(os.getpid()))

urlpatterns = [path("call/", call)]
"""
ASGI = """
import django
django.setup()
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

class Party(AsyncJsonWebsocketConsumer):
    groups = ["party"]

    async def party_said(self, message):
        await self.send_json(message)

application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("party/", Party.as_asgi())])}
)
"""
CASES = """
import json, os, urllib.request
from channels.layers import get_channel_layer
from channels.testing import ChannelsLiveServerTestCase
from django.test import LiveServerTestCase
from websockets.sync.client import connect

ALIAS = os.environ["SITE_ALIAS"]

class Calls:
    databases = {"default", ALIAS}

    def called(self):
        layer = get_channel_layer()
        channel = layer.sync.new_channel()
        layer.sync.group_add("party", channel)
        with urllib.request.urlopen(self.live_server_url + "/call/", timeout=20) as answer:
            pid = int(answer.read())
        assert layer.sync.receive(channel, timeout=20)["pid"] == pid
        return pid

class InAThread(Calls, LiveServerTestCase):
    def test_a_view_reaches_the_test(self):
        assert self.called() == os.getpid()

class InAProcess(Calls, ChannelsLiveServerTestCase):
    def test_a_view_reaches_the_test(self):
        assert self.called() != os.getpid()

    def test_the_test_reaches_a_socket(self):
        with connect(self.live_server_ws_url + "/party/", proxy=None) as socket:
            get_channel_layer().sync.group_send("party", {"type": "party.said", "pid": os.getpid()})
            assert json.loads(socket.recv(timeout=20))["pid"] == os.getpid()
"""
RUN = """
import multiprocessing, sys
from django.core.management import execute_from_command_line
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    execute_from_command_line(["manage.py", "test", "--noinput", *sys.argv[2:]])
"""


def run_cases(folder: Path, databases: dict[str, Any], alias: str, *words: str) -> str:
    """Run the cases in a site of their own; return what was printed."""
    project = Project.tiny(
        folder, settings=SETTINGS, environment={"SITE_DATABASES": json.dumps(databases), "SITE_ALIAS": alias}
    )
    for name, text in (("site_urls", URLS), ("site_asgi", ASGI), ("live_cases", CASES), ("run", RUN)):
        project.write(f"{name}.py", text)
    return project.python("run.py", *words)


def assert_not_made(folder: Path) -> None:
    """What lies there begins with test_, or is of the test database."""
    names = [path.name for path in folder.glob("*.sqlite3*")]
    assert not [name for name in names if name.startswith(("real", "plain"))], "a real database was made"


@pytest.mark.parametrize(
    ("engine", "alias", "method"),
    [
        ("sqlite_alias", "default", "fork"),
        ("sqlite_alias", "messages", "spawn"),
        ("postgres_alias", "messages", "spawn"),
        ("mariadb_alias", "messages", "spawn"),
    ],
)
def test_a_server_in_another_process(
    engine: str, alias: str, method: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A process that is spawned gets no test name for any database but the default one."""
    plain = {**sqlite_entry(tmp_path / "plain.sqlite3"), "TEST": {"NAME": str(tmp_path / "test_plain.sqlite3")}}
    entry = entry_of(engine, request, folder=tmp_path, name=f"never_made_{method}")
    databases = {"default": plain, "messages": plain, alias: entry}
    output = run_cases(tmp_path, databases, alias, method, "live_cases.InAProcess")
    assert "Ran 2 tests" in output
    assert_not_made(tmp_path)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_server_in_a_thread(in_memory: bool, tmp_path: Path) -> None:
    entry = sqlite_entry(tmp_path / "real.sqlite3")
    test = {} if in_memory else {"TEST": {"NAME": str(tmp_path / "test.sqlite3")}}
    method = "fork" if sys.platform == "linux" else "spawn"
    output = run_cases(tmp_path, {"default": {**entry, **test}}, "default", method, "live_cases.InAThread")
    assert "Ran 1 test" in output
    assert_not_made(tmp_path)
