"""What a reader does with the files and commands of a page, done by a test."""

import contextlib
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from channels_trunk.testing import eventually_blocking
from tests.acceptance.processes import Program, is_alive
from tests.docs.markdown import blocks
from tests.docs.plans import PLANS
from tests.docs.postgres import PageDatabase
from tests.docs.project import Project
from tests.docs.story import Story
from tests.docs.treatments import File
from tests.plugins.servers import free_port

SOON = 20.0
MANAGE = """
import sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
TUTORIAL = "docs/tutorial/chat.md"


@contextlib.contextmanager
def stopping(*programs: Program) -> Iterator[None]:
    """Stop the programs after the block."""
    try:
        yield
    finally:
        for program in programs:
            program.stop()


def answer(port: int, program: Program) -> str | None:
    """The page of the lobby, or None while the server does not answer."""
    assert not program.has_ended(), program.output
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/chat/lobby/", timeout=SOON) as page:
            text: str = page.read().decode()
            return text
    except OSError:
        return None


def join(port: int) -> ClientConnection:
    """Open the lobby's socket as a browser does that shows the page."""
    origin = Origin(f"http://127.0.0.1:{port}")
    return connect(f"ws://127.0.0.1:{port}/ws/chat/lobby/", origin=origin, proxy=None)


def say(socket: ClientConnection, text: str) -> None:
    """Say something in the room."""
    socket.send(json.dumps({"text": text}))


def hear(socket: ClientConnection) -> str:
    """The next thing that is said."""
    text: str = json.loads(socket.recv(timeout=SOON))["text"]
    return text


def tutorial(story: Story) -> None:
    """Make the project, start both servers, chat, speak from a third process, and kill one server."""
    story.run(Project(story.folder), "django-admin startproject mysite")
    assert story.command("cd mysite")
    project = Project(story.folder / "mysite")
    story.run(project, "python manage.py startapp chat")
    story.append(project, "mysite/settings.py")
    story.write(project)
    assert "no issues" in story.run(project, "python manage.py check")
    ports = [free_port(), free_port()]
    programs = []
    for number, port in enumerate(ports):
        words = story.command("python -m uvicorn")
        assert words[-2:] == ["--port", str(8000 + number)]
        programs.append(story.start(project, *words[:-1], str(port)))
    with stopping(*programs):
        for port, program in zip(ports, programs, strict=True):
            page = eventually_blocking(partial(answer, port, program), within=SOON)
            assert "new WebSocket" in str(page)
        chat(story, project, ports, programs)


def chat(story: Story, project: Project, ports: list[int], programs: list[Program]) -> None:
    """Talk over both servers."""
    with join(ports[0]) as ann, join(ports[1]) as bob:
        say(ann, "hello")
        assert [hear(ann), hear(bob)] == ["hello", "hello"]
        say(bob, "hi")
        assert [hear(ann), hear(bob)] == ["hi", "hi"]
        story.run(project, "python manage.py shell -c")
        assert [hear(ann), hear(bob)] == ["hello from the shell"] * 2
        assert (project.folder / "db.channels.sqlite3").exists()
        programs[1].process.kill()
        eventually_blocking(lambda: not is_alive(programs[1].process.pid), within=SOON)
        say(ann, "still here")
        assert hear(ann) == "still here"


def workers(story: Story) -> None:
    """Start a worker, and ask it."""
    project = Project.tiny(story.folder / "site", settings=story.files.pop("settings.py"))
    story.write(project)
    project.write("ask_in_django.py", "import django\ndjango.setup()\nimport ask\n")
    words = story.command("python manage.py runworker thumbnails")
    assert words[0] == "manage.py"
    worker = story.start(project, "-m", "django", *words[1:])
    with stopping(worker):
        assert project.python("ask_in_django.py") == "[5, 6, 7]\n"


def testing(story: Story) -> None:
    """Run Django's tests on the tutorial's project."""
    project = tutorial_project(story)
    story.write(project, "chat/test_consumers.py")
    assert "\nOK" in project.python("manage.py", "test")
    assert not list(project.folder.glob("*.sqlite3*")), "the layer of an in-memory test database has made a file"
    story.append(project, "mysite/settings.py")
    story.write(project)
    output = story.run(project, "python manage.py test")
    assert re.search(r"^Ran 4 tests .*\n\nOK$", output, re.MULTILINE), output
    # Neither the real file, which is nobody's business in a test run, nor the test database's.
    assert not list(project.folder.glob("*.sqlite3*"))


def tutorial_project(story: Story) -> Project:
    """The project that the tutorial ends with."""
    Project(story.folder).python("-m", "django", "startproject", "mysite")
    project = Project(story.folder / "mysite")
    project.python("manage.py", "startapp", "chat")
    for block, treatment in zip(blocks(TUTORIAL), PLANS[TUTORIAL].blocks, strict=True):
        if isinstance(treatment, File):
            write = project.append if treatment.path == "mysite/settings.py" else project.write
            write(treatment.path, block.code)
    return project


def deployment(story: Story) -> None:
    """Check the tutorial's project as one does before deploying it; the warnings are about its DEBUG and the like."""
    output = story.run(tutorial_project(story), "python manage.py check --deploy")
    assert "channels_trunk" not in output


def conformance(story: Story) -> None:
    """Run part of the suite on the layer of the example."""
    project = Project(story.folder)
    story.write(project)
    words = story.command("python -m pytest test_my_layer.py -k")
    here = ("--confcutdir=.", "--rootdir=.", "-p", "no:cacheprovider")
    output = project.python(*words, *here)
    assert re.search(r"[1-9]\d* passed, \d+ deselected, [1-9]\d* xfailed in", output), output
    words = story.command("python -m pytest -p channels_trunk.testing.cuts.plugin")
    output = project.python(*words, *here, "--collect-only")  # there is no server of the reader's
    assert "4 tests collected" in output, output
    words = story.command("python -m pytest test_my_layer_by_model.py")
    output = project.python(*words, *here)
    assert "1 passed in" in output, output


def postgres(story: Story) -> None:
    """Have the tables made by their owner, use them by another role, and dump the database without them."""
    database = PageDatabase.of(story.fixture, pooled=False)
    project = Project.tiny(
        story.folder, settings=database.translated(story.files.pop("settings.py")), environment=database.environment
    )
    project.write("manage.py", MANAGE)
    shell = {**project.environment(), "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])}
    while story.commands:
        line = database.command(story.commands.pop(0))
        done = subprocess.run(line, shell=True, cwd=project.folder, env=shell, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert "trunk_log_0" in (project.folder / "trunk.sql").read_text()
    assert project.try_settings() == {"messages": [], "works": {"default": True}}
    assert "TABLE public.trunk_" not in (project.folder / "mysite.sql").read_text()


def rabbitmq(story: Story) -> None:
    """Make the user, and give it what the page says and no more: that is enough for the layer."""
    broker, password = story.fixture("rabbit"), secrets.token_hex(8)
    broker.ctl("add_user", "mysite", password)
    while story.commands:
        program, *words = shlex.split(story.commands.pop(0))
        assert program == "rabbitmqctl"
        broker.ctl(*words)
    url = f"amqp://mysite:{password}@{broker.host}:{broker.port}/mysite"
    layer = {"BACKEND": "channels_trunk.layers.RabbitMQChannelLayer", "CONFIG": {"host": url}}
    project = Project.tiny(story.folder, settings=f"CHANNEL_LAYERS = {{'default': {layer}}}")
    assert project.try_settings() == {"messages": [], "works": {"default": True}}


SCENARIOS: dict[str, Callable[[Story], None]] = {
    TUTORIAL: tutorial,
    "docs/howto/workers.md": workers,
    "docs/howto/test.md": testing,
    "docs/howto/postgres.md": postgres,
    "docs/howto/rabbitmq.md": rabbitmq,
    "docs/howto/deploy.md": deployment,
    "docs/howto/run-the-conformance-suite.md": conformance,
}
