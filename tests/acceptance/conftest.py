"""Fixtures of the acceptance tests."""

from pathlib import Path
from uuid import uuid4

import pytest

from tests.acceptance.site import Site


@pytest.fixture
def room() -> str:
    """A chat room that no other test knows."""
    return f"room-{uuid4().hex[:8]}"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A small site with a data folder of its own."""
    return Site(tmp_path)
