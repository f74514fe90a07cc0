"""What Python lets run in the middle of our code, or around it."""

import sys

import pytest

from tests.contexts.conftest import Engine, MakeEngine

_BOTH_WAYS = "works(); asyncio.run(works_here()); print('works')"


@pytest.mark.parametrize("python", [("-O",), ("-OO",), ("-X", "tracemalloc=25"), ("-B", "-P", "-s")], ids=" ".join)
def test_options_of_the_interpreter(make_engine: MakeEngine, python: tuple[str, ...]) -> None:
    for name in ("memory", "sqlite"):
        assert make_engine(name).says(_BOTH_WAYS, python=python) == "works\n"


def test_warnings_are_errors(engine: Engine) -> None:
    """In the development mode, too, which warns of whatever is not closed."""
    assert engine.says(_BOTH_WAYS, python=["-X", "dev", "-W", "error"]) == "works\n"


def test_debug_mode_of_asyncio(engine: Engine) -> None:
    """It checks that nothing is called from the wrong thread, and that nothing is forgotten."""
    code = "asyncio.run(works_here(), debug=True); asyncio.run(works_here(), debug=True); print('works')"
    assert engine.says(code, python=["-W", "error"], PYTHONASYNCIODEBUG="1") == "works\n"


def test_trace_and_profile_functions(engine: Engine) -> None:
    """As debuggers and coverage have them, in each thread."""
    code = """
calls = []
def trace(frame, event, argument):
    calls.append(event)
    return trace
threading.settrace(trace); threading.setprofile(trace); sys.settrace(trace); sys.setprofile(trace)
works()
asyncio.run(works_here())
sys.settrace(None); sys.setprofile(None)
print(len(calls) > 1000)
"""
    assert engine.says(code) == "True\n"


def test_exception_hooks_may_send(engine: Engine) -> None:
    """Of threads, of destructors, and the last one of the process."""
    code = """
channel = other.sync.new_channel()
other.sync.group_add("errors", channel)
def tell(kind, *_):
    layer.sync.group_send("errors", {"type": "error", "by": kind})
threading.excepthook = lambda _arguments: tell("thread")
sys.unraisablehook = lambda _arguments: tell("destructor")
sys.excepthook = lambda *_: (tell("process"), print(other.sync.receive(channel, timeout=40)["by"]))

thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
print(other.sync.receive(channel, timeout=40)["by"])

class Faulty:
    def __del__(self):
        1 / 0
Faulty()
print(other.sync.receive(channel, timeout=40)["by"])
1 / 0
"""
    done = engine.run(code)
    assert (done.returncode, done.stdout, done.stderr) == (1, "thread\ndestructor\nprocess\n", "")


def test_weak_references_may_send_in_the_middle_of_a_call(engine: Engine) -> None:
    code = """
import gc, itertools, weakref
channel = other.sync.new_channel()
other.sync.group_add("gone", channel)
class Thing:
    def __init__(self): self.itself = self
gone = []
def tell():
    layer.sync.group_send("gone", {"type": "gone", "n": len(gone)})
    gone.append(1)
calls = itertools.count(1)
def profile(_frame, event, _argument):
    if event == "call" and not next(calls) % 41:
        weakref.finalize(Thing(), tell)
        gc.collect(0)
sys.setprofile(profile)
for number in range(20):
    layer.sync.group_send("elsewhere", HELLO)
sys.setprofile(None)
assert gone
got = [other.sync.receive(channel, timeout=40)["n"] for _ in gone]
print(got == list(range(len(gone))))
"""
    assert engine.says(code) == "True\n"


def test_one_loop_inside_another(engine: Engine) -> None:
    """As nest_asyncio and notebooks have it: code that runs in a loop runs another loop, or the same one, to an end."""
    code = """
def inside(coroutine):
    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return asyncio.new_event_loop().run_until_complete(coroutine)
    finally:
        asyncio._set_running_loop(outer)

async def outer():
    channel = await other.new_channel()
    waiting = asyncio.create_task(other.receive(channel))
    await asyncio.sleep(0)
    inside(works_here())
    await layer.send(channel, HELLO)
    async with asyncio.timeout(40):
        assert await waiting == HELLO
    await works_here()

asyncio.run(outer())
print("works")
"""
    done = engine.run(code)
    assert (done.returncode, done.stdout) == (0, "works\n"), done.stderr


def test_asyncio_run_many_times_and_in_many_threads(engine: Engine) -> None:
    code = """
for _ in range(3):
    asyncio.run(works_here())
failed = []
def run():
    try:
        asyncio.run(one_message())
    except BaseException as error:
        failed.append(error)
async def one_message():
    channel = await other.new_channel()
    for _ in range(5):
        await layer.send(channel, HELLO)
        async with asyncio.timeout(40):
            assert await other.receive(channel) == HELLO
threads = [threading.Thread(target=run) for _ in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(failed)
"""
    assert engine.says(code) == "[]\n"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has had eager tasks since Python 3.12")
def test_eager_tasks(engine: Engine) -> None:
    """Tasks begin to run where they are made, and may be done by then."""
    code = """
async def main():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    for _ in range(3):
        await works_here()
        await asyncio.gather(*(layer.group_send("room", HELLO) for _ in range(20)))
    channel = await other.new_channel()
    waiting = asyncio.create_task(other.receive(channel))
    await layer.send(channel, HELLO)
    async with asyncio.timeout(40):
        assert await waiting == HELLO
asyncio.run(main())
print("works")
"""
    assert engine.says(code) == "works\n"


def test_uvloop(engine: Engine) -> None:
    """The loop of uvicorn[standard]."""
    code = """
import uvloop
async def main():
    await works_here()
    channel = await other.new_channel()
    for number in range(90):
        await layer.send(channel, {"type": "n", "n": number})
    async with asyncio.timeout(40):
        assert [(await other.receive(channel))["n"] for _ in range(90)] == list(range(90))
    waiting = asyncio.create_task(other.receive(channel))
    await asyncio.sleep(0)
    waiting.cancel()
for _ in range(2):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
works()
print("works")
"""
    assert engine.says(code, python=["-W", "error"]) == "works\n"


def test_trio_is_told_what_to_call_instead(engine: Engine) -> None:
    """The layer's coroutines are asyncio's. From trio's threads the blocking calls work."""
    code = """
import trio
async def main():
    await trio.to_thread.run_sync(works)
    try:
        await layer.receive("jobs")
    except RuntimeError as error:
        print(error)
trio.run(main)
"""
    assert engine.says(code) == "no running event loop\n"


def test_a_context_of_the_caller_stays_the_callers(engine: Engine) -> None:
    """Whatever the first request has in context variables ends with it: the layer keeps none of it."""
    code = """
import contextvars, gc, weakref
class Request: pass
current = contextvars.ContextVar("current")
def call():
    request = Request()
    current.set(request)
    works()
    asyncio.run(works_here())
    return weakref.ref(request)
reference = contextvars.Context().run(call)
for _ in range(400):
    gc.collect()
    if reference() is None: break
    time.sleep(0.05)
print(reference())
"""
    assert engine.says(code) == "None\n"


def test_a_subinterpreter_is_refused(make_engine: MakeEngine) -> None:
    """No promise: it can have no thread of the layer's kind, or not import msgspec. The main interpreter goes on."""
    code = """
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
works()
try:
    told = interpreters.run_string(interpreters.create(), "import channels_trunk.layers as layers; "
        "from django.conf import settings; settings.configure(); layers.MemoryChannelLayer().sync.new_channel()")
except Exception as error:
    told = error
assert "subinterpreters" in str(told), told
works()
print("works")
"""
    assert make_engine("memory").says(code) == "works\n"
