"""Servers with several processes or threads, as process managers run them."""

import asyncio
import contextlib
import importlib.util
import json
import socket
import urllib.request
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.sync.client import connect as sync_connect

from channels_trunk.testing import eventually, eventually_blocking
from tests.acceptance.processes import is_alive
from tests.acceptance.site import ASGI, WSGI, Site
from tests.plugins.servers import free_port

SOON = 20.0
QUIET = ("--log-level", "warning")

# The package that took over from uvicorn's own module, or that module.
UVICORN_WORKER = (
    "uvicorn_worker.UvicornWorker" if importlib.util.find_spec("uvicorn_worker") else "uvicorn.workers.UvicornWorker"
)


def gunicorn(worker_class: str) -> list[str]:
    """gunicorn imports the application, and uses the layer, before it forks three workers."""
    return ["-m", "gunicorn", ASGI, "--preload", "--workers", "3", "-k", worker_class, *QUIET, "-b", "127.0.0.1:{port}"]


SERVERS = [
    pytest.param(gunicorn(UVICORN_WORKER), 3, id="gunicorn-preload-uvicorn"),
    pytest.param(gunicorn("asgi"), 3, id="gunicorn-preload-asgi"),
    pytest.param(["-m", "uvicorn", ASGI, "--workers", "4", *QUIET, "--port", "{port}"], 4, id="uvicorn-workers-4"),
]


class Party:
    """One socket at the party."""

    def __init__(self, connection: ClientConnection, pid: int) -> None:
        self._connection = connection
        self.pid = pid

    async def say(self, text: str) -> None:
        """Tell everybody."""
        await self._connection.send(json.dumps({"text": text}))

    async def hear(self) -> tuple[str, int]:
        """The next text, and the process it came through."""
        heard = json.loads(await self._connection.recv())
        return heard["text"], heard["pid"]


@contextlib.asynccontextmanager
async def one_at_each_process(port: int, path: str, *, processes: int) -> AsyncIterator[list[Party]]:
    """Open sockets until there is one at each server process. The system chooses who gets one."""
    found: dict[int, Party] = {}
    await eventually(lambda: is_listening(port), within=SOON * 2)
    async with asyncio.timeout(SOON * 2), contextlib.AsyncExitStack() as stack:
        while len(found) < processes:
            connection = await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/{path}/", proxy=None))
            pid = json.loads(await connection.recv())["pid"]
            found.setdefault(pid, Party(connection, pid))
        yield list(found.values())


def is_listening(port: int) -> bool:
    """Whether somebody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.mark.parametrize("path", ["async", "sync", "alias"])
@pytest.mark.parametrize(("command", "processes"), SERVERS)
async def test_every_process_reaches_every_process(
    site: Site, command: Sequence[str], *, processes: int, path: str
) -> None:
    port = free_port()
    at_import = {"DEPLOYED_USES_LAYER_AT_IMPORT": "1"} if "--preload" in command else {}
    server = site.program(*(part.format(port=port) for part in command), **at_import)
    try:
        async with one_at_each_process(port, path, processes=processes) as parties:
            for speaker in parties:
                await speaker.say(f"I am {speaker.pid}")
                for listener in parties:
                    assert await listener.hear() == (f"I am {speaker.pid}", speaker.pid)
    finally:
        server.stop()
    pids = [party.pid for party in parties]
    assert server.process.pid not in pids
    assert not any(map(is_alive, pids))
    assert "Traceback" not in server.output
    assert "rror" not in server.output
    # uvicorn's processes end by the signal itself, so they cannot clear up; the next process does it for them.
    assert site.files_after_a_visit() == ["messages.sqlite3", "site.channels.sqlite3"]


def say(port: int, text: str) -> dict[str, int]:
    """Ask the site for a page that sends; return what its process holds."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/say?text={text}", timeout=SOON) as answer:
        held: dict[str, int] = json.load(answer)
    return held


def test_plain_wsgi_threads(site: Site) -> None:
    port, listening_port = free_port(), free_port()
    wsgi = ["-m", "gunicorn", WSGI, "-k", "gthread", "--threads", "8", *QUIET, "-b", f"127.0.0.1:{port}"]
    asgi = ["-m", "uvicorn", ASGI, *QUIET, "--port", str(listening_port)]
    with site.running(*wsgi), site.running(*asgi), ThreadPoolExecutor(8) as clients:
        eventually_blocking(lambda: is_listening(port) and is_listening(listening_port), within=SOON * 2)
        with sync_connect(f"ws://127.0.0.1:{listening_port}/async/", proxy=None) as listener:
            assert "pid" in json.loads(listener.recv(timeout=SOON))

            def heard(count: int) -> list[str]:
                return sorted(json.loads(listener.recv(timeout=SOON))["text"] for _ in range(count))

            def round_of_requests(name: str) -> None:
                texts = [f"{name}.{number}" for number in range(20)]
                list(clients.map(lambda text: say(port, text), texts))
                assert heard(40) == sorted(f"{text}, {way}" for text in texts for way in ("adapted", "plain"))

            for name in "ab":
                round_of_requests(name)
            quiet = say(port, "quiet")
            assert [json.loads(listener.recv(timeout=SOON))["text"] for _ in range(2)] == [
                "quiet, adapted",
                "quiet, plain",
            ]
            for name in "cdefgh":
                round_of_requests(name)
            later = say(port, "later")
    assert later["pid"] == quiet["pid"]
    # The server's pool may have grown to its eight threads; 240 messages have left nothing behind.
    assert later["threads"] <= quiet["threads"] + 8
    assert later["files"] <= quiet["files"] + 8
