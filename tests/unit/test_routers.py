"""TrunkRouter."""

from typing import Any

import pytest
from django.db import models
from django.test import override_settings

from channels_trunk.models import LogRow
from channels_trunk.routers import TrunkRouter


class Other(models.Model):
    class Meta:
        app_label = "other"


def layers(**databases: str | None) -> dict[str, Any]:
    backend = "channels_trunk.layers.DatabaseChannelLayer"
    return {
        alias: {"BACKEND": backend, "CONFIG": {} if database is None else {"database": database}}
        for alias, database in databases.items()
    }


@pytest.mark.parametrize(
    ("settings", "home", "allowed"),
    [
        (layers(default="messages"), "messages", {"messages"}),
        (layers(default=None), "default", {"default"}),
        (layers(one="messages", other="more"), "messages", {"messages", "more"}),
        ({"default": {"BACKEND": "channels_trunk.layers.SQLiteChannelLayer"}}, None, set()),
        ({"default": {"BACKEND": "no.such.layer"}}, None, set()),
        ({}, None, set()),
    ],
)
def test_the_tables_are_where_the_layers_want_them(settings: Any, home: str | None, allowed: set[str]) -> None:
    router = TrunkRouter()
    with override_settings(CHANNEL_LAYERS=settings):
        assert router.db_for_read(LogRow) == router.db_for_write(LogRow) == home
        found = {db for db in ("default", "messages", "more") if router.allow_migrate(db, "channels_trunk")}
        assert found == allowed


def test_no_opinion_of_others() -> None:
    router = TrunkRouter()
    assert router.db_for_read(Other) is None
    assert router.allow_migrate("default", "contenttypes", model_name="contenttype") is None
