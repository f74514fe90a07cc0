"""What arrives of values that Django code has at hand, here and with the layers that people come from."""

import datetime
import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from channels.layers import InMemoryChannelLayer
from channels_redis import serializers as of_redis
from django.http import QueryDict

from channels_trunk.codec.serializers import make_serializer
from channels_trunk.exceptions import EncodeError

ROOT = Path(__file__).parent.parent.parent
PARIS = ZoneInfo("Europe/Paris")
PAGES = ["in-memory", "channels-redis", "channels-lite", "channels-postgres", "channels-rabbitmq"]


def here(form: str, value: Any) -> Any:
    serializer = make_serializer(form)
    return serializer.from_bytes(serializer.as_bytes({"v": value}))["v"]


@pytest.mark.parametrize("form", ["msgpack", "json"])
def test_a_query_dict_arrives_with_all_its_values(form: str) -> None:
    query = QueryDict("tag=a&tag=b&page=3")
    assert here(form, query) == {"tag": ["a", "b"], "page": ["3"]}
    assert here(form, query.dict()) == {"tag": "b", "page": "3"}


@pytest.mark.parametrize("form", ["msgpack", "json"])
def test_a_time_zone_is_refused_and_its_key_is_not(form: str) -> None:
    with pytest.raises(EncodeError, match=r"message\['v'\]: a value of type zoneinfo.ZoneInfo cannot be packed"):
        here(form, PARIS)
    assert here(form, PARIS.key) == "Europe/Paris"


def test_a_time_arrives_at_the_same_moment_and_with_a_fixed_offset() -> None:
    sent = datetime.datetime(2026, 7, 1, 12, tzinfo=PARIS)
    came = here("msgpack", sent)
    assert came == sent
    assert came.tzinfo == datetime.timezone(datetime.timedelta(hours=2))
    # As where the sender's rule counts: half a year later it is winter.
    half_a_year = datetime.timedelta(days=184)
    assert (came + half_a_year) != (sent + half_a_year).astimezone(datetime.UTC)
    assert here("json", sent) == "2026-07-01T12:00:00+02:00"


QUERY = QueryDict("tag=a&tag=b&page=3")
LAST = {"tag": "b", "page": "3"}


@pytest.mark.parametrize("form", ["msgpack", "json"])
def test_what_arrives_with_channels_redis(form: str) -> None:
    serializer: Any = of_redis.registry.get_serializer(form)
    assert serializer.deserialize(serializer.serialize({"v": QUERY}))["v"] == LAST
    with pytest.raises(TypeError):
        serializer.serialize({"v": PARIS})


@pytest.mark.parametrize(
    ("pack", "unpack", "query"),
    [
        (msgpack.packb, msgpack.unpackb, LAST),
        (json.dumps, json.loads, LAST),
        (msgspec.msgpack.encode, msgspec.msgpack.decode, {"tag": ["a", "b"], "page": ["3"]}),
    ],
    ids=["channels_postgres, channels_rabbitmq", "channels-lite, json", "channels-lite, msgpack"],
)
def test_what_arrives_with_what_others_pack_by(pack: Any, unpack: Any, query: Any) -> None:
    assert unpack(pack({"v": QUERY}))["v"] == query
    with pytest.raises(TypeError):
        pack({"v": PARIS})


async def test_in_memory_the_objects_themselves_arrive() -> None:
    layer = InMemoryChannelLayer()
    await layer.send("jobs", {"type": "x", "query": QUERY, "zone": PARIS})
    came = await layer.receive("jobs")
    assert came["query"] == QUERY
    assert came["query"].getlist("tag") == ["a", "b"]
    assert came["zone"] == PARIS


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_say_so(page: str) -> None:
    text = (ROOT / "docs" / "howto" / f"move-from-{page}.md").read_text()
    assert "| a `QueryDict` |" in text
    assert '`{"tag": ["a", "b"]}`' in text
    assert "| a `ZoneInfo` |" in text
