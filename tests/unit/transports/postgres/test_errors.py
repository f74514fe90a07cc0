"""What a refusal of the server's means, as the documentation says it."""

import re
from pathlib import Path

import pytest

from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.transports.base import Busy
from channels_trunk.transports.postgres.errors import MEANINGS, Meaning, is_lost, meaning_of, refusal, translated
from channels_trunk.transports.postgres.wire import ServerError

PAGE = Path(__file__).parents[4] / "docs" / "explanation" / "postgres-log.md"
# Every class of PostgreSQL's appendix that is a refusal.
CLASSES = (
    *("03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23"),
    *("24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F"),
    *("40", "42", "44", "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX"),
)


def test_the_page_and_the_code_say_the_same() -> None:
    section = PAGE.read_text().split("## What the server refuses")[1].split("\n## ")[0]
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("| `")]
    said = {state: action for states, _means, action in rows for state in re.findall(r"`(\w+)`", states)}
    assert said == {state: meaning.value for state, meaning in MEANINGS.items()}


@pytest.mark.parametrize("state", [*(f"{kind}999" for kind in CLASSES), *(s.ljust(5, "0") for s in MEANINGS)])
def test_what_passes_ends_no_layer(state: str) -> None:
    error, meaning = ServerError(state, "said"), meaning_of(state)
    opening, working = refusal(error, "here"), translated(error, "here")
    if meaning is Meaning.AGAIN:
        assert isinstance(opening, Busy)
        assert isinstance(working, Busy)
    else:
        assert isinstance(working, TransportUnavailable)
        assert isinstance(opening, TransportError)
        assert isinstance(opening, TransportUnavailable) == (meaning is Meaning.PASSES)
    assert is_lost(error) == (meaning in {Meaning.PASSES, Meaning.PERSON})


@pytest.mark.parametrize("state", ["42501", "42P01", "3F000", "28000", "54001", "0A000", "55000"])
def test_what_a_person_has_to_mend(state: str) -> None:
    assert meaning_of(state) is Meaning.PERSON
    assert not isinstance(refusal(ServerError(state, "said"), "here"), TransportUnavailable)
