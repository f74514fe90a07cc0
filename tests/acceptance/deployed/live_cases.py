"""Django test cases, run by `manage.py test` in a process of their own (so pytest does not collect this file)."""

import gc
import json
import os
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels.testing import ChannelsLiveServerTestCase
from django.test import SimpleTestCase, override_settings
from websockets.sync.client import ClientConnection, connect

from channels_trunk.testing import eventually_blocking
from tests.acceptance.deployed.held import threads_and_files

OTHER = {"default": {"BACKEND": "channels_trunk.layers.SQLiteChannelLayer", "CONFIG": {"prefix": "other"}}}
MEMORY = {"default": {"BACKEND": "channels_trunk.layers.MemoryChannelLayer"}}


class LiveServer(ChannelsLiveServerTestCase):
    """The server is another process, on the test databases; the layers must be with it there."""

    databases = {"default", "messages"}

    def meet(self, path: str) -> ClientConnection:
        """Join the party; the server's process answers, and it is not this one."""
        socket = connect(f"{self.live_server_ws_url}/{path}/", proxy=None)
        self.addCleanup(socket.close)
        assert json.loads(socket.recv(timeout=20))["pid"] != os.getpid()
        return socket

    def test_a_message_of_the_test_reaches_the_server(self) -> None:
        for path, alias in (("async", "default"), ("sync", "default"), ("alias", "by_alias")):
            with self.subTest(path):
                socket = self.meet(path)
                layer = get_channel_layer(alias)
                layer.sync.group_send("party", {"type": "party.said", "text": f"test {path}", "pid": 0})
                assert json.loads(socket.recv(timeout=20))["text"] == f"test {path}"

    def test_a_message_of_the_server_reaches_the_test(self) -> None:
        for path, alias in (("async", "default"), ("alias", "by_alias")):
            with self.subTest(path):
                layer = get_channel_layer(alias)
                channel = async_to_sync(layer.new_channel)()
                async_to_sync(layer.group_add)("party", channel)
                self.meet(path).send(json.dumps({"text": f"server {path}"}))
                assert layer.sync.receive(channel, timeout=20)["text"] == f"server {path}"
                async_to_sync(layer.group_discard)("party", channel)


def exchange() -> None:
    """Send and receive in every way a test does."""
    layer: Any = get_channel_layer()
    async_to_sync(layer.send)("note", {"type": "hello"})
    assert async_to_sync(layer.receive)("note") == {"type": "hello"}
    channel = layer.sync.new_channel()
    layer.sync.group_add("group", channel)
    layer.sync.group_send("group", {"type": "hello"})
    assert layer.sync.receive(channel, timeout=20) == {"type": "hello"}


class OverriddenSettings(SimpleTestCase):
    """Each override makes new layers; those before must go away by themselves."""

    databases = {"default"}  # where the layers are: in the test database

    def check(self, change: Callable[[], None]) -> None:
        """Run `change` often; there must be no more threads and open files than after the first time."""
        change()
        assert get_channel_layer() is not None
        gc.collect()
        threads, files = threads_and_files()
        for _ in range(20):
            change()

        def settled() -> bool:
            gc.collect()
            threads_now, files_now = threads_and_files()
            # What one change left behind, 20 would leave 20 times. A few more or less are a matter of the moment: of a
            # thread that has not come so far, when the first numbers were taken.
            return threads_now < threads + 5 and files_now < files + 10

        eventually_blocking(settled, within=20, what=f"{threads} threads and {files} files again")

    def test_other_options(self) -> None:
        def change() -> None:
            with override_settings(CHANNEL_LAYERS=OTHER):
                exchange()

        self.check(change)

    def test_another_layer(self) -> None:
        def change() -> None:
            with override_settings(CHANNEL_LAYERS=MEMORY):
                exchange()
            exchange()

        self.check(change)

    @override_settings(CHANNEL_LAYERS={})
    def test_none_at_all(self) -> None:
        assert get_channel_layer() is None

    def test_layers_of_two_settings_do_not_meet(self) -> None:
        before: Any = get_channel_layer()
        with override_settings(CHANNEL_LAYERS=OTHER):
            other: Any = get_channel_layer()
            other.sync.send("note", {"type": "other"})
            before.sync.send("note", {"type": "before"})
            assert other.sync.receive("note", timeout=20) == {"type": "other"}
        assert before.sync.receive("note", timeout=20) == {"type": "before"}
