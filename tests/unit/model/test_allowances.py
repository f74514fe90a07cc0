"""Where the model allows two outcomes, the guarantees say so."""

from pathlib import Path

import pytest

from channels_trunk.testing.model import Allowance, at_once, ledger, reference, runner

GUARANTEES = Path(__file__).parents[3] / "docs/explanation/guarantees.md"


@pytest.mark.parametrize("allowance", Allowance)
def test_guarantees_say_so(allowance: Allowance) -> None:
    words = " ".join(GUARANTEES.read_text().split())
    assert allowance.value in words


@pytest.mark.parametrize("allowance", Allowance)
def test_model_names_it_where_it_allows_it(allowance: Allowance) -> None:
    sources = [Path(module.__file__ or "").read_text() for module in (at_once, ledger, reference, runner)]
    assert any(f"Allowance.{allowance.name}" in source for source in sources)
