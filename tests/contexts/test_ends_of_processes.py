"""The end of a process: atexit, destructors that run while the interpreter ends, and ends without a word."""

import pytest

from tests.contexts.conftest import Engine

# As Python 3.12 does from the end of the main thread on.
_AS_3_12 = """
def refuse(_self):
    raise RuntimeError("can't create new thread at interpreter shutdown")
threading.Thread.start = refuse
"""
_LAST = """
import atexit
CALLS = {
    "send": lambda: layer.sync.send("jobs", HELLO),
    "group_send": lambda: layer.sync.group_send("room", HELLO),
    "new_channel": lambda: layer.sync.new_channel(),
    "receive": lambda: layer.sync.receive("nothing", timeout=0.01),
    "asyncio.run": lambda: asyncio.run(layer.group_send("room", HELLO)),
    "async_to_sync": lambda: async_to_sync(layer.group_send)("room", HELLO),
}

def outcome(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__ + ": " + str(error)
    return "served"

def last():
    AS_3_12
    for name, call in CALLS.items():
        print(name, outcome(call), sep=": ")

atexit.register(last)
"""
# asgiref asks its own thread pool, which Python closes before atexit: the layer is not even called.
_OF_ASGIREF = "async_to_sync: RuntimeError: cannot schedule new futures after interpreter shutdown"
_SERVED = ["send: served", "group_send: served", "new_channel: served", "asyncio.run: served"]


def _told(engine: Engine, code: str) -> list[str]:
    done = engine.run(code, python=["-W", "ignore::RuntimeWarning"])
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("as_3_12", [False, True], ids=["this Python", "Python 3.12"])
def test_atexit_of_a_layer_that_is_open(engine: Engine, as_3_12: bool) -> None:
    told = _told(
        engine, "works()" + _LAST.replace("AS_3_12", _AS_3_12.strip().replace("\n", "\n    ") if as_3_12 else "")
    )
    assert [line for line in told if line.endswith("served")] == _SERVED
    assert "receive: TimeoutError: no message on 'nothing' within 0.01 s" in told
    assert _OF_ASGIREF in told


def test_a_first_use_in_atexit_where_python_starts_no_thread_any_more(engine: Engine) -> None:
    told = _told(engine, _LAST.replace("AS_3_12", _AS_3_12.strip().replace("\n", "\n    ")))
    assert told.pop() == _OF_ASGIREF
    assert len(told) == 5
    for line in told:
        assert "ChannelLayerError: the layer's thread cannot be started: can't create new thread" in line
        assert "only a layer that" in line


def test_a_first_use_in_atexit(engine: Engine) -> None:
    """Each Python serves it, or refuses at once, in the same words."""
    told = _told(engine, _LAST.replace("AS_3_12", ""))
    assert told.pop() == _OF_ASGIREF
    served = [line for line in told if line.endswith(": served")]
    assert served == _SERVED or all("ChannelLayerError: the layer's thread cannot be started" in line for line in told)


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "asyncio.run(works_here())"], ids=["falls off", "exits", "a loop"])
def test_daemon_threads_that_send_while_the_process_ends(engine: Engine, end: str) -> None:
    """Nothing waits for ever: they go on until the end, or are told that the layer was closed."""
    code = f"""
works()
sent = []
def send():
    try:
        while True:
            layer.sync.group_send("noise", HELLO)
            sent.append(1)
    except ChannelLayerError as error:
        assert "the layer was closed meanwhile" in str(error) or "cannot be started" in str(error), error
for _ in range(3):
    threading.Thread(target=send, daemon=True).start()
while len(sent) < 20:
    time.sleep(0.001)
print("ends", flush=True)
{end}
"""
    done = engine.run(code)
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("is_open", [True, False], ids=["open before", "never used"])
def test_destructors_while_the_interpreter_ends(engine: Engine, is_open: bool) -> None:
    """No thread runs any more then: what would wait for one is refused at once. The process ends."""
    code = f"""
import builtins, gc
if {is_open}:
    works()
calls = [
    lambda: layer.sync.group_send("room", HELLO),
    lambda: layer.sync.send("jobs", HELLO),
    layer.sync.new_channel,
    lambda: layer.sync.receive("nothing", timeout=0.01),
    lambda: layer.sync.group_add("room", "jobs"),
    layer.sync.flush,
    layer.sync.close,
    layer.stats,
    layer.health,
]
class Thing:
    def __init__(self, calls=calls, errors=(ChannelLayerError, RuntimeError, TimeoutError)):
        self.calls, self.errors = calls, errors
    def __del__(self):
        for call in self.calls:
            try:
                call()
            except self.errors:
                pass
thing = Thing()
thing.itself = thing
builtins.very_last = Thing()
gc.disable()
print("ends", flush=True)
"""
    done = engine.run(code)
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
