"""Libraries that replace threads, and what else may keep the layer's thread from starting, or end it."""

import subprocess
import sys

import pytest

from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.hub.io_thread import IOThread
from channels_trunk.testing import eventually_blocking

PROGRAM = """
{patch}
from django.conf import settings
settings.configure(DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}})
import django; django.setup()
from asgiref.sync import async_to_sync
from django.db import connection
from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.layers import MemoryChannelLayer, SQLiteChannelLayer

for layer in (MemoryChannelLayer(), SQLiteChannelLayer(path={path!r})):
    for call in (
        lambda: layer.sync.group_send("group", {{"type": "message"}}),
        lambda: async_to_sync(layer.group_send)("group", {{"type": "message"}}),
        layer.sync.new_channel,
        lambda: layer.sync.receive("jobs", timeout=1),
        lambda: async_to_sync(layer.receive)("jobs"),
    ):
        try:
            call()
        except ChannelLayerError as error:
            assert "{name} has replaced the threads" in str(error), error
        else:
            raise AssertionError("it was not refused")
        with connection.cursor() as cursor:  # no event loop is left behind in this thread
            cursor.execute("SELECT 1")
print("refused")
"""
PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch()",
}


@pytest.mark.parametrize("name", PATCHES)
def test_replaced_threads_are_refused_at_once(name: str, tmp_path: object) -> None:
    program = PROGRAM.format(patch=PATCHES[name], name=name, path=f"{tmp_path}/layer.sqlite3")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_the_first_use_in_atexit_is_served_or_refused_at_once(tmp_path: object) -> None:
    program = f"""
import atexit
from django.conf import settings; settings.configure()
from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.layers import SQLiteChannelLayer
layer = SQLiteChannelLayer(path="{tmp_path}/layer.sqlite3")
def last():
    try:
        layer.sync.group_send("group", {{"type": "message"}})
    except ChannelLayerError as error:
        assert "at the end of the process" in str(error).lower(), error
    print("done")
atexit.register(last)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_callback_that_ends_the_loop_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    thread = IOThread("under-test")
    called: list[str] = []
    try:
        thread.call(sys.exit)
        thread.call(called.append, "afterwards")
        eventually_blocking(lambda: called)
        assert "something ended the event loop" in caplog.text
    finally:
        thread.stop()
        thread.join(20)


def test_a_thread_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from channels_trunk.layers import MemoryChannelLayer

    def refuse(_self: object) -> None:
        raise RuntimeError("can't start new thread")

    layer = MemoryChannelLayer()
    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", refuse)
        for call in (layer.sync.new_channel, lambda: layer.sync.group_send("group", {"type": "message"})):
            with pytest.raises(ChannelLayerError, match="can't start new thread"):
                call()
    assert layer.sync.new_channel()
    layer.sync.close()
