"""A private Redis: the control for benchmarks and conformance."""

import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from channels_trunk.testing.ports import LOOPBACK, free_port
from tests.plugins.servers.process import Process, find, private_folder
from tools.server_table import REDIS


def _answers(port: int) -> bool:
    with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")


def _command(port: int, folder: Path) -> Sequence[str | Path]:
    return [
        find(REDIS),
        *("--port", str(port), "--bind", LOOPBACK, "--dir", str(folder)),
        *("--save", "", "--appendonly", "no", "--daemonize", "no"),
    ]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The address of a Redis that belongs to this run alone."""
    if url := REDIS.url():
        yield url
        return
    with private_folder("redis") as folder:
        port = free_port()
        process = Process(_command(port, folder), folder=folder)
        process.start(lambda: _answers(port))
        process.belongs_to_session()
        yield f"redis://{LOOPBACK}:{port}"
        process.stop(signal.SIGTERM)
