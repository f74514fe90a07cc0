"""What a refusal of the broker's means, as the documentation says it."""

import re
from pathlib import Path

import pytest

from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.transports.rabbitmq.errors import MEANINGS, AmqpError, Meaning, read_close, translated
from channels_trunk.transports.rabbitmq.wire import Method, short

PAGE = Path(__file__).parents[4] / "docs" / "explanation" / "rabbitmq.md"
# Every reply code of AMQP 0-9-1.
CODES = (200, 311, 312, 313, 320, 402, 403, 404, 405, 406, 501, 502, 503, 504, 505, 506, 530, 540, 541)
METHODS = {0: "", Method.BASIC_PUBLISH: " basic.publish", Method.EXCHANGE_DECLARE: " exchange.declare"}


def test_the_page_and_the_code_say_the_same() -> None:
    section = PAGE.read_text().split("## What the broker refuses")[1].split("\n## ")[0]
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("| `")]
    said = {code: action for codes, _means, action in rows for code in re.findall(r"`([^`]+)`", codes)}
    assert said == {f"{code}{METHODS[method]}": meaning.value for (code, method), meaning in MEANINGS.items()}
    assert {code for code, method in MEANINGS if not method} == set(CODES)


@pytest.mark.parametrize("code", [0, *CODES, 599])
@pytest.mark.parametrize("method", METHODS)
def test_what_passes_ends_no_layer(code: int, method: int) -> None:
    error = read_close(bytes(4) + code.to_bytes(2, "big") + short("said") + method.to_bytes(4, "big")).another()
    assert (error.code, error.method, str(error)) == (code, method, "said")
    opening, working = translated(error, "here", opening=True), translated(error, "here")
    assert isinstance(working, TransportUnavailable)
    assert isinstance(opening, TransportError)
    assert isinstance(opening, TransportUnavailable) == (error.meaning is not Meaning.PERSON)
    assert "said" in str(opening)


def test_a_refusal_of_an_unknown_code_passes() -> None:
    assert AmqpError("said", 599).meaning is AmqpError("said").meaning is Meaning.PASSES
