"""For the tests of more than one engine."""

import pytest

from channels_trunk.hub import doorwatch


@pytest.fixture
def no_taking_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a loop that reads be as late as the machine's load makes it: no other thread reads in its place."""
    monkeypatch.setattr(doorwatch, "_GRACE", 600)
