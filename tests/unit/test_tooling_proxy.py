"""The proxy that tests put between a client and its server."""

import gc
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest

from channels_trunk.testing import eventually_blocking
from channels_trunk.testing.cut import Cut, Direction, Manner, Moment, Scope
from channels_trunk.testing.ports import free_port
from channels_trunk.testing.proxy import Proxy

SHORT = 0.2  # of waiting for an answer that must not come


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets, behind the name of its server."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(4096):
                self.server.got.append(data)  # type: ignore[attr-defined]
                self.request.sendall(self.server.name + data)  # type: ignore[attr-defined]
        except ConnectionResetError:
            self.server.resets.append(self.client_address)  # type: ignore[attr-defined]


class EchoServer(socketserver.ThreadingTCPServer):
    def __init__(self, name: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.name = name
        self.resets: list[object] = []
        self.got: list[bytes] = []


def serve(name: bytes) -> Iterator[EchoServer]:
    with EchoServer(name) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target() -> Iterator[EchoServer]:
    yield from serve(b"one:")


@pytest.fixture
def other() -> Iterator[EchoServer]:
    yield from serve(b"two:")


@pytest.fixture
def between(target: EchoServer, proxy: Callable[[str, int], Proxy]) -> Proxy:
    return proxy("127.0.0.1", int(target.server_address[1]))


def connect(between: Proxy) -> socket.socket:
    return socket.create_connection(between.address, timeout=10)


def ask(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(4096)


def test_it_passes_on_both_ways_and_the_end_of_a_stream(between: Proxy) -> None:
    with connect(between) as connection:
        assert ask(connection, b"hello") == b"one:hello"
        assert between.connections() == 1
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4096) == b""
    eventually_blocking(lambda: between.connections() == 0)


def test_cut_resets_both_sides_and_takes_new_connections(between: Proxy, target: EchoServer) -> None:
    with connect(between) as connection, connect(between) as idle:
        ask(connection, b"hello")
        ask(idle, b"hello")
        between.cut()
        for cut in (connection, idle):
            with pytest.raises(ConnectionResetError):
                cut.recv(1)
        eventually_blocking(lambda: len(target.resets) == 2)
    with connect(between) as connection:
        assert ask(connection, b"again") == b"one:again"


def test_hang_closes_nothing_and_loses_nothing(between: Proxy) -> None:
    with connect(between) as old:
        ask(old, b"hello")
        between.hang()
        with connect(between) as new:
            for connection in (old, new):
                connection.sendall(b"later")
                connection.settimeout(SHORT)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.settimeout(10)
            between.resume()
            assert old.recv(4096) == new.recv(4096) == b"one:later"


def test_a_hung_connection_can_be_cut(between: Proxy) -> None:
    with connect(between) as connection:
        ask(connection, b"hello")
        between.hang()
        connection.sendall(b"never")
        between.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_refuse_leaves_the_connections_that_exist(between: Proxy) -> None:
    with connect(between) as old:
        ask(old, b"hello")
        between.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(between)
        assert ask(old, b"still") == b"one:still"
        between.resume()
        with connect(between) as new:
            assert ask(new, b"hello") == b"one:hello"


def test_retarget_moves_new_connections_only(between: Proxy, other: EchoServer) -> None:
    with connect(between) as old:
        ask(old, b"hello")
        between.retarget("127.0.0.1", int(other.server_address[1]))
        with connect(between) as new:
            assert ask(new, b"hello") == b"two:hello"
        assert ask(old, b"hello") == b"one:hello"


def read_to_the_end(connection: socket.socket) -> tuple[bytes, bool]:
    """What still comes, and whether a reset ends it."""
    got = b""
    try:
        while data := connection.recv(4096):
            got += data
    except ConnectionResetError:
        return got, True
    return got, False


@pytest.mark.parametrize("manner", Manner)
@pytest.mark.parametrize(
    ("moment", "passed"), [(Moment.BEFORE, b""), (Moment.HALFWAY, b"one:s"), (Moment.AFTER, b"one:second")]
)
def test_it_cuts_at_a_packet_of_the_servers(between: Proxy, manner: Manner, moment: Moment, passed: bytes) -> None:
    during: list[str] = []
    between.plan(
        Cut(direction=Direction.TO_CLIENT, number=1, moment=moment, manner=manner), noted=lambda: during.append("cut")
    )
    with connect(between) as connection, connect(between) as other:
        assert ask(connection, b"first") == b"one:first"
        assert not during
        connection.sendall(b"second")
        assert read_to_the_end(connection) == (passed, manner is Manner.RESET)
        assert ask(other, b"third") == b"one:third"
    assert during == ["cut"]
    assert between.packets() == {Direction.TO_SERVER: 3, Direction.TO_CLIENT: 3}
    between.plan(None)
    with connect(between) as connection:
        assert ask(connection, b"again") == b"one:again"
    assert between.packets() == {Direction.TO_SERVER: 1, Direction.TO_CLIENT: 1}


@pytest.mark.parametrize("manner", Manner)
@pytest.mark.parametrize(
    ("moment", "answer"), [(Moment.BEFORE, b""), (Moment.HALFWAY, b"he"), (Moment.AFTER, b"hello")]
)
def test_it_cuts_at_a_packet_of_the_clients(
    between: Proxy, target: EchoServer, manner: Manner, moment: Moment, answer: bytes
) -> None:
    between.plan(Cut(direction=Direction.TO_SERVER, number=0, moment=moment, manner=manner))
    with connect(between) as connection:
        connection.sendall(b"hello")
        assert read_to_the_end(connection) == (b"", manner is Manner.RESET)
    eventually_blocking(lambda: between.connections() == 0)
    eventually_blocking(lambda: b"".join(target.got) == answer)


def test_it_cuts_every_connection(between: Proxy) -> None:
    between.plan(Cut(direction=Direction.TO_SERVER, number=2, scope=Scope.ALL))
    with connect(between) as one, connect(between) as two, connect(between) as idle:
        ask(one, b"hello")
        ask(two, b"hello")
        eventually_blocking(lambda: between.connections() == 3)
        one.sendall(b"never")
        for connection in (one, two, idle):
            assert read_to_the_end(connection) == (b"", True)


def test_a_cut_is_repeated_by_its_name() -> None:
    cut = Cut(direction=Direction.TO_CLIENT, number=17, moment=Moment.HALFWAY, manner=Manner.END, scope=Scope.ALL)
    assert str(cut) == "to_client:17:halfway:end:all"
    assert Cut.parse(str(cut)) == cut


def test_a_target_that_refuses_resets_the_client(target: EchoServer, proxy: Callable[[str, int], Proxy]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = proxy(*unused.getsockname())
        # The reset may come before connect() has returned.
        with pytest.raises(ConnectionResetError), connect(dead) as connection:
            connection.recv(1)


def test_close_leaves_nothing_of_connections_that_have_just_come() -> None:
    """Warnings are errors: a transport that is left open fails the test."""
    for _ in range(20):
        between = Proxy("127.0.0.1", free_port())
        between.hang()
        clients = [connect(between) for _ in range(3)]
        between.close()
        for client in clients:
            client.close()
    gc.collect()
