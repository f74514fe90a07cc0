"""Private RabbitMQ servers: one for the whole run, others for tests that stop theirs, and clusters."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from tests.plugins.servers.process import private_folder
from tests.plugins.servers.rabbit_server import START_SECONDS, Epmd, RabbitServer

OwnRabbitFactory = Callable[[], RabbitServer]
RabbitClusterFactory = Callable[[], Sequence[RabbitServer]]


@contextmanager
def running(names: Sequence[str]) -> Iterator[list[RabbitServer]]:
    """A server, or the nodes of a cluster."""
    with ExitStack() as stack:
        epmd = Epmd(stack.enter_context(private_folder("epmd")))
        stack.callback(epmd.process.kill)
        epmd.start()
        epmd.process.belongs_to_session()  # a fixture of the session may be asked for in the midst of a test
        cookie = secrets.token_hex(10)
        peers = [f"{name}@localhost" for name in names] if len(names) > 1 else []
        nodes: list[RabbitServer] = []
        for name in names:
            folder = stack.enter_context(private_folder("rabbit"))
            nodes.append(RabbitServer(folder, epmd=epmd, name=name, cookie=cookie, peers=peers))
            stack.callback(nodes[-1].kill)
        nodes[0].start()
        for node in nodes[1:]:
            node.process.spawn()
        for node in nodes[1:]:
            node.process.wait_until(node.answers, within=START_SECONDS)
        yield nodes


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitServer]:
    """The RabbitMQ of this run, which nobody stops; take a `fresh_vhost()`."""
    with running(["trunk"]) as (node,):
        node.process.belongs_to_session()
        yield node


@pytest.fixture
def own_rabbit() -> Iterator[OwnRabbitFactory]:
    """Call it for a RabbitMQ of the test's own."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running(["trunk"]))[0]


@pytest.fixture
def rabbit_cluster() -> Iterator[RabbitClusterFactory]:
    """Call it for three nodes that form a cluster."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running(["one", "two", "three"]))
