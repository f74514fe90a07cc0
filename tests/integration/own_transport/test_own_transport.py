"""`TrunkChannelLayer._make_transport` as the extension point: a layer outside of the package, by its dotted path."""

import uuid
from typing import Any

import pytest
from channels.layers import ChannelLayerManager
from django.test import override_settings

from channels_trunk.exceptions import OptionsError
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.conformance import Suite
from channels_trunk.testing.model import ModelSuite
from channels_trunk.transports.base import Transport
from tests.integration.own_transport.bulletin import BulletinChannelLayer

BACKEND = "tests.integration.own_transport.bulletin.BulletinChannelLayer"


class Bulletin:
    features = Features(crosses_processes=False)

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        return LayerUnderTest(backend=BACKEND, config={"room": "suite", "prefix": f"suite-{uuid.uuid4().hex}"})


class TestBulletin(Bulletin, Suite):
    pass


@pytest.mark.timeout(600)
class TestBulletinByTheModel(Bulletin, ModelSuite):
    programmes = 10


def configured(**config: Any) -> Any:
    """The layer that CHANNEL_LAYERS names, made by Channels."""
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": BACKEND, "CONFIG": config}}):
        return ChannelLayerManager()["default"]


def test_it_is_named_by_its_dotted_path_and_its_options_are_checked_like_ours() -> None:
    layer = configured(room="hall")
    assert type(layer) is BulletinChannelLayer
    assert layer.health().state == "closed"
    where = r"^CHANNEL_LAYERS\['default'\]\['CONFIG'\]"
    with pytest.raises(OptionsError, match=where + r": unknown option 'rom'; did you mean 'room'\?$"):
        configured(rom="hall")
    with pytest.raises(OptionsError, match=where + r"\['room'\]: must be a string that is not empty, not ''$"):
        configured(room="")


def test_the_transport_is_made_once_at_the_first_use_with_the_values_of_all_options() -> None:
    made: list[dict[str, Any]] = []

    class Counting(BulletinChannelLayer):
        def _make_transport(self, values: dict[str, Any]) -> Transport:
            made.append(values)
            return super()._make_transport(values)

    layer = Counting(prefix=uuid.uuid4().hex, capacity=7)
    assert made == []
    layer.sync.new_channel()
    layer.sync.close()
    layer.sync.new_channel()
    layer.sync.close()
    [values] = made
    assert (values["room"], values["capacity"], values["expiry"]) == ("lobby", 7, 60.0)
    assert set(values) == {option.name for option in Counting.options}


def test_a_layer_without_it_says_what_is_missing() -> None:
    class Bare(TrunkChannelLayer):
        pass

    with pytest.raises(NotImplementedError, match=r"Bare must define _make_transport\(\)$"):
        Bare().sync.send("jobs", {"type": "x"})
