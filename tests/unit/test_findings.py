"""Whether something listens at an address."""

import socket
import tempfile
from pathlib import Path

from channels_trunk.findings import Level, find_server
from channels_trunk.testing.ports import free_port


def test_a_server_that_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert find_server("127.0.0.1", server.getsockname()[1], "here") is None


def test_a_server_on_a_unix_socket() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = Path(folder) / ".s.PGSQL.5432"
        missing = find_server(str(path), 5432, "here")
        assert missing
        assert (missing.code, missing.text) == (
            "server-down",
            "here: nothing answers there (No such file or directory)",
        )
        server.bind(str(path))
        server.listen()
        assert find_server(str(path), 5432, "here") is None


def test_a_server_that_is_not_there() -> None:
    found = find_server("127.0.0.1", free_port(), "the broker")
    assert found
    assert (found.level, found.code) == (Level.ERROR, "server-down")
    assert found.text == "the broker: nothing answers there (Connection refused)"
    assert found.remedy
