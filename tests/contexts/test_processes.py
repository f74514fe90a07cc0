"""Processes that are made by others, and what the system allows them."""

import pytest

from tests.contexts.conftest import Engine

_CHILD = """
def child(channel):
    layer.sync.send(channel, {"type": "from a child"})
    works()
    layer.sync.close()
    other.sync.close()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(shared_engine: Engine, method: str) -> None:
    """The layers are open in the parent, and somebody waits; the child takes part by itself."""
    code = f"""
import multiprocessing
{_CHILD}
if __name__ == "__main__":
    works()
    channel = layer.sync.new_channel()
    process = multiprocessing.get_context("{method}").Process(target=child, args=(channel,))
    process.start()
    assert layer.sync.receive(channel, timeout=60)["type"] == "from a child"
    process.join()
    assert process.exitcode == 0, process.exitcode
    works()
    print("works")
"""
    done = shared_engine.run(code)
    assert (done.returncode, done.stdout) == (0, "works\n"), done.stderr


def test_a_fork_in_a_thread_while_others_send(shared_engine: Engine) -> None:
    code = f"""
{_CHILD}
works()
channel = layer.sync.new_channel()
is_over = threading.Event()
def send():
    while not is_over.is_set():
        other.sync.group_send("noise", HELLO)
senders = [threading.Thread(target=send) for _ in range(2)]
for sender in senders: sender.start()
codes = []
def fork():
    for _ in range(3):
        if not (pid := os.fork()):
            try:
                child(channel)
                os._exit(0)
            finally:
                os._exit(1)
        assert layer.sync.receive(channel, timeout=60)["type"] == "from a child"
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
forking = threading.Thread(target=fork)
forking.start()
forking.join()
is_over.set()
for sender in senders: sender.join()
works()
print(codes)
"""
    done = shared_engine.run(code)
    assert (done.returncode, done.stdout) == (0, "[0, 0, 0]\n"), done.stderr


def test_no_descriptors_left(engine: Engine) -> None:
    """The first use is told so, or waits for one; when there are some again, it works."""
    code = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
layer.send_timeout = other.send_timeout = 1
try:
    layer.sync.group_send("room", HELLO)
except ChannelLayerError as error:
    print("Too many open files" in str(error) or "unable to open database file" in str(error), file=sys.stderr)
for descriptor in taken:
    os.close(descriptor)
for _ in range(60):
    try:
        works()
        break
    except (ChannelLayerError, TimeoutError):
        time.sleep(0.5)
else:
    raise AssertionError("it does not come back")
print("works")
"""
    done = engine.run(code)
    assert (done.returncode, done.stdout) == (0, "works\n"), done.stderr
    assert "False" not in done.stderr, done.stderr


def test_djangos_autoreload(engine: Engine) -> None:
    """As in runserver: the process is ended, and begun anew, while the layer is open."""
    code = """
from django.utils import autoreload
def main():
    works()
    print("works", flush=True)
    flag = os.path.join(FOLDER, "reloaded")
    if not os.path.exists(flag):
        open(flag, "w").close()
        os._exit(3)  # what trigger_reload() does out of the main thread: sys.exit(3)
    os._exit(0)
if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) == "true":
    autoreload.start_django(autoreload.get_reloader(), main)
else:
    sys.exit(autoreload.restart_with_reloader())
"""
    done = engine.run(code)
    assert (done.returncode, done.stdout) == (0, "works\nworks\n"), done.stderr
