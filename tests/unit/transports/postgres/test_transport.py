"""What the transport concludes from what it is told, on parts that are only made up."""

from types import SimpleNamespace
from typing import Any

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.postgres import PostgresSettings, PostgresTransport
from channels_trunk.transports.postgres.upkeep import Place


def make_transport(place: Place) -> Any:
    transport: Any = PostgresTransport(lambda: PostgresSettings("dbname=mysite"))
    transport._settings = PostgresSettings("dbname=mysite")
    transport._place = place
    return transport


def make_open(position: int, answer: Place, *, heard_meanwhile: int) -> Any:
    opened: Any = SimpleNamespace(listener=SimpleNamespace(position=position), upkeep=SimpleNamespace())

    async def find_place() -> Place:
        opened.listener.position += heard_meanwhile
        return answer

    opened.upkeep.find_place = find_place
    return opened


async def test_what_is_heard_during_the_question_is_no_sign_of_emptied_tables() -> None:
    transport = make_transport(Place(1, 1, 100))
    await transport._check_place(make_open(100, Place(1, 1, 100), heard_meanwhile=5))


@pytest.mark.parametrize("answer", [Place(1, 1, 99), Place(2, 1, 200)], ids=["head", "epoch"])
async def test_emptied_tables_are_seen(answer: Place) -> None:
    transport = make_transport(Place(1, 1, 100))
    with pytest.raises(TransportUnavailable, match="somebody has emptied the layer's tables"):
        await transport._check_place(make_open(100, answer, heard_meanwhile=0))
