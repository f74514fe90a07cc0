"""Proxies that are closed after the test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from channels_trunk.testing.proxy import Proxy


@pytest.fixture
def proxy() -> Iterator[Callable[[str, int], Proxy]]:
    """Call it with a target's host and port for a proxy of the test's own."""
    with ExitStack() as stack:

        def start(host: str, port: int) -> Proxy:
            made = Proxy(host, port)
            stack.callback(made.close)
            return made

        yield start
