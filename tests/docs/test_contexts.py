"""docs/explanation/contexts.md names tests that exist, and all of tests/contexts."""

import importlib
import re
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, read

PAGE = "docs/explanation/contexts.md"
NODE_IDS = sorted(set(re.findall(r"`(tests/[\w/]+\.py::[\w:]+)`", read(PAGE))))


def rows() -> list[list[str]]:
    """Of all tables of contexts."""
    lines = [line for line in read(PAGE).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[1] != "promise"]


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_a_test_that_is_named_exists(node_id: str) -> None:
    file, *names = node_id.split("::")
    found: object = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    for name in names:
        found = getattr(found, name)
    assert callable(found)


def test_every_row_has_a_promise_and_a_test_unless_there_is_none() -> None:
    for context, promise, _, tests in rows():
        assert promise in ("works", "refused", "works, or refused", "none"), context
        assert tests.startswith("`tests/") or (not tests and promise == "none"), context


def test_every_test_of_a_context_is_on_the_page() -> None:
    named = {node_id.partition("::")[0::2] for node_id in NODE_IDS}
    for file in sorted((ROOT / "tests" / "contexts").glob("test_*.py")):
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE):
            assert (str(Path("tests/contexts") / file.name), name) in named, f"{file.name}::{name}"
