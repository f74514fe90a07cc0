"""The option --cuts, as a pytest plugin: `-p channels_trunk.testing.cuts.plugin`, or in `pytest_plugins`."""

import pytest

__all__ = ["pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--cuts",
        metavar="HOW_MANY",
        help="what a CutSuite cuts in each scenario: so many chosen at random, 'all', or the cut of this name",
    )
