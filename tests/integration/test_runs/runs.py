"""Fresh projects whose tests are run as their users run them: by manage.py, by pytest, in parallel."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.docs.project import Project

SETTINGS = """
import json, os
DATABASES = json.loads(os.environ["SITE_DATABASES"])
CHANNEL_LAYERS = json.loads(os.environ["SITE_LAYERS"])
DATABASE_ROUTERS = ["channels_trunk.routers.TrunkRouter"]
ROOT_URLCONF = "site_urls"
ASGI_APPLICATION = "site_asgi.application"
STATIC_URL = "static/"
"""
MANAGE = """
import multiprocessing, os, sys
from django.core.management import execute_from_command_line
if __name__ == "__main__":
    if method := os.environ.get("SITE_START_METHOD"):
        multiprocessing.set_start_method(method)
    execute_from_command_line(sys.argv)
"""
URLS = """
from channels.layers import get_channel_layer
from django.http import HttpResponse
from django.urls import path

def call(request):
    get_channel_layer().sync.group_send("party", {"type": "party.said"})
    return HttpResponse("said")

urlpatterns = [path("call/", call)]
"""
ASGI = """
import django
django.setup()
from django.core.asgi import get_asgi_application
application = get_asgi_application()
"""
ONE = """
from channels.layers import channel_layers, get_channel_layer
from django.test import TestCase

class Sends(TestCase):
    databases = "__all__"

    def test_sends(self):
        for alias in channel_layers.configs:
            layer = get_channel_layer(alias)
            layer.sync.send("note", {"type": "hello"})
            assert layer.sync.receive("note", timeout=20) == {"type": "hello"}
"""
# The layers of the settings that are changed for a while are dropped with them.
OVERRIDDEN = """
from django.conf import settings
from django.test import override_settings
from site_cases import Sends

@override_settings(CHANNEL_LAYERS={**settings.CHANNEL_LAYERS})
class Overridden(Sends):
    pass
"""
# In two classes, as each process of a parallel run takes whole classes.
TWO = """
import os
from site_cases import Sends

class SendsToo(Sends):
    pass
"""
LIVE = """
import urllib.request
from channels.layers import get_channel_layer
from channels.testing import ChannelsLiveServerTestCase
from django.test import LiveServerTestCase

class Calls:
    def test_a_view_reaches_the_test(self):
        layer = get_channel_layer()
        channel = layer.sync.new_channel()
        layer.sync.group_add("party", channel)
        with urllib.request.urlopen(self.live_server_url + "/call/", timeout=20) as answer:
            assert answer.read() == b"said"
        assert layer.sync.receive(channel, timeout=20) == {"type": "party.said"}

class InAThread(Calls, LiveServerTestCase):
    pass

class InAProcess(Calls, ChannelsLiveServerTestCase):
    pass
"""
# Before there is a test database, as modules are imported then; and where there is none.
EARLY = """
from channels.layers import get_channel_layer
from site_cases import Sends
get_channel_layer().sync.send("early", {"type": "hello"})
"""
SIMPLE = """
from channels.layers import channel_layers, get_channel_layer
from channels_trunk.exceptions import ChannelLayerError
from django.test import SimpleTestCase

class Refused(SimpleTestCase):
    def test_sends(self):
        for alias in channel_layers.configs:
            with self.assertRaisesRegex(ChannelLayerError, "which this test may not use"):
                get_channel_layer(alias).sync.flush()
"""
# What goes on in the background when Django drops the database, and afterwards.
LATE = """
import threading
from channels.layers import channel_layers, get_channel_layer
from channels_trunk.exceptions import ChannelLayerError
from site_cases import Sends

def send_on(layer):
    try:
        while True:
            layer.sync.group_send("nobody", {"type": "hello"})
    except ChannelLayerError as error:
        print(f"it ended: {error}", flush=True)

def receive(layer):
    try:
        layer.sync.receive("nothing")
    except ChannelLayerError as error:
        print(f"it heard: {error}", flush=True)

class GoesOn(Sends):
    def test_goes_on(self):
        for alias in channel_layers.configs:
            for target in (send_on, receive):
                threading.Thread(target=target, args=(get_channel_layer(alias),)).start()
"""
FILES = {
    "manage.py": MANAGE,
    "site_urls.py": URLS,
    "site_asgi.py": ASGI,
    "site_cases.py": ONE,
    "site_more_cases.py": TWO,
    "site_overridden_cases.py": OVERRIDDEN,
    "site_live_cases.py": LIVE,
    "site_early_cases.py": EARLY,
    "site_simple_cases.py": SIMPLE,
    "site_late_cases.py": LATE,
}


class Run:
    """A project with these databases and layers, in an empty folder."""

    def __init__(
        self, folder: Path, databases: Mapping[str, Any], layers: Mapping[str, Any], *, settings: str = ""
    ) -> None:
        environment = {"SITE_DATABASES": json.dumps(databases), "SITE_LAYERS": json.dumps(layers)}
        self._project = Project.tiny(folder, settings=SETTINGS + settings, environment=environment)
        for name, text in FILES.items():
            self._project.write(name, text)
        self.given = set(os.listdir(folder))

    def write(self, name: str, text: str) -> None:
        """Add a file, or write one anew."""
        self._project.write(name, text)
        self.given.add(name)

    def left_behind(self) -> set[str]:
        """What lies in the folder that was not there at first."""
        return set(os.listdir(self._project.folder)) - self.given - {"__pycache__", ".pytest_cache"}

    def manage(self, *words: str, start_method: str = "") -> str:
        """Run `manage.py test` to its end, which must be a good one; return what it printed."""
        return self._python("manage.py", "test", "--noinput", *words, start_method=start_method)

    def pytest(self, *words: str) -> str:
        """The same by pytest and pytest-django; warnings are errors."""
        options = (
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            "-W",
            "error",
            "-q",
            "-c",
            os.devnull,
            "--rootdir",
            ".",
        )
        return self._python("-m", "pytest", *options, *words)

    def _python(self, *words: str, start_method: str = "") -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self._project.folder,
            env={**self._project.environment(), "SITE_START_METHOD": start_method},
            capture_output=True,
            text=True,
            timeout=240,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{words}\n{output}"
        assert "the engine" not in output, f"the layer has logged a trouble\n{output}"
        return output
