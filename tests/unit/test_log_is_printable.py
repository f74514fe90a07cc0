"""What the package logs is one line, whatever names and texts of others are in it."""

import logging

import pytest

from channels_trunk.aside import logger

EVIL = "a\x1b[2J\r\nERROR b\u202e"


class Strange(Exception):
    pass


@pytest.mark.parametrize(
    ("value", "shown"), [(EVIL, r"a\x1b[2J\r\nERROR b\u202e"), (Strange(EVIL), r"a\x1b[2J ERROR b\u202e"), (1.5, "1.5")]
)
def test_values_are_shown_in_one_line(value: object, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    logger.warning("said: %s, and %g", value, 2)
    logger.error("said: %s", value)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f"said: {shown}, and 2"),
        (logging.ERROR, f"said: {shown}"),
    ]
