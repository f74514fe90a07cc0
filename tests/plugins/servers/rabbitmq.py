"""Private RabbitMQ servers: one for the whole run, others for tests that stop theirs, and clusters.

Each may be of any version that the table of programs has.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from tests.plugins.servers.process import private_folder
from tests.plugins.servers.rabbit_server import START_SECONDS, Epmd, RabbitServer
from tools.server_table import NEWEST_RABBITMQ, RABBITMQ, RABBITMQ_40, Program

OwnRabbitFactory = Callable[[], RabbitServer]
RabbitClusterFactory = Callable[[], Sequence[RabbitServer]]
SharedRabbit = Callable[[str, Program], RabbitServer]

# What a test with a broker may take: the first one starts it, and each call of rabbitmqctl starts an Erlang of its own.
TEST_SECONDS = 600

EVERY_RABBITMQ: Mapping[str, Program] = {program.name: program for program in (RABBITMQ, RABBITMQ_40, NEWEST_RABBITMQ)}


def on_rabbitmq(*programs: Program) -> pytest.MarkDecorator:
    """Run a test, or a class of them, once on each of these: its fixtures give the brokers of that version."""
    names = [program.name for program in programs]
    return pytest.mark.parametrize("rabbitmq_program", programs, ids=names, indirect=True)


on_every_rabbitmq = on_rabbitmq(*EVERY_RABBITMQ.values())


@contextmanager
def running(names: Sequence[str], *, program: Program = RABBITMQ) -> Iterator[list[RabbitServer]]:
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
            nodes.append(RabbitServer(folder, epmd=epmd, name=name, cookie=cookie, peers=peers, program=program))
            stack.callback(nodes[-1].kill)
        for node in nodes:  # since 4.0 the first waits for a second
            node.process.spawn()
        for node in nodes:
            node.process.wait_until(node.answers, within=START_SECONDS)
        yield nodes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test that has a broker the time that a loaded machine takes, unless it asks for more."""
    for item in items:
        if "chosen_rabbitmq" in getattr(item, "fixturenames", ()):
            own = item.get_closest_marker("timeout")
            if own is None or 0 < own.args[0] < TEST_SECONDS:
                item.add_marker(pytest.mark.timeout(TEST_SECONDS), append=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rabbitmq",
        choices=sorted(EVERY_RABBITMQ),
        default=RABBITMQ.name,
        help="the RabbitMQ of tests that do not name one; those marked on_every_rabbitmq run on all",
    )


@pytest.fixture(scope="session")
def chosen_rabbitmq(request: pytest.FixtureRequest) -> Program:
    """The RabbitMQ of tests that do not name one."""
    return EVERY_RABBITMQ[request.config.getoption("rabbitmq")]


@pytest.fixture
def rabbitmq_program(request: pytest.FixtureRequest, chosen_rabbitmq: Program) -> Program:
    """Which RabbitMQ this test is about: see on_every_rabbitmq."""
    program: Program = getattr(request, "param", chosen_rabbitmq)
    return program


@pytest.fixture(scope="session")
def shared_rabbit() -> Iterator[SharedRabbit]:
    """Call it with a name and a program for a RabbitMQ that stays to the end of the run: always the same one."""
    with ExitStack() as stack:
        nodes: dict[tuple[str, str], RabbitServer] = {}

        def shared(name: str, program: Program) -> RabbitServer:
            if (name, program.name) not in nodes:
                (node,) = stack.enter_context(running([name], program=program))
                node.process.belongs_to_session()
                nodes[name, program.name] = node
            return nodes[name, program.name]

        yield shared


@pytest.fixture
def rabbit(shared_rabbit: SharedRabbit, rabbitmq_program: Program) -> RabbitServer:
    """The RabbitMQ of this run, which nobody stops; take a `fresh_vhost()`."""
    return shared_rabbit("trunk", rabbitmq_program)


@pytest.fixture
def own_rabbit(rabbitmq_program: Program) -> Iterator[OwnRabbitFactory]:
    """Call it for a RabbitMQ of the test's own."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running(["trunk"], program=rabbitmq_program))[0]


@pytest.fixture
def rabbit_cluster(rabbitmq_program: Program) -> Iterator[RabbitClusterFactory]:
    """Call it for three nodes that form a cluster."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running(["one", "two", "three"], program=rabbitmq_program))
