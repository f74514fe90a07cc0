"""What was logged, when all of it was: the layers log in a thread of their own."""

import logging

import pytest

from channels_trunk.aside import records


class _Settled(pytest.LogCaptureFixture):  # type: ignore[misc]
    """The fixture of pytest, but what is on its way is waited for."""

    @property
    def records(self) -> list[logging.LogRecord]:
        records.drained(20)
        return super().records

    @property
    def text(self) -> str:
        records.drained(20)
        return super().text

    def clear(self) -> None:
        records.drained(20)
        super().clear()


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.__class__ = _Settled
    return caplog
