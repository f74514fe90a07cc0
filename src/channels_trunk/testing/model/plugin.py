"""The option --programmes, as a pytest plugin: `-p channels_trunk.testing.model.plugin`, or in `pytest_plugins`."""

import pytest

__all__ = ["pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--programmes",
        type=int,
        metavar="HOW_MANY",
        help="how many random programmes a ModelSuite runs with each kind of node",
    )
