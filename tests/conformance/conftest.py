"""The marker of the long runs beside the suite."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "acceptance: a long run with the numbers that the project promises")
