"""What the model finds in layers of others, by name: each programme shows it every time."""

from typing import NamedTuple

import pytest

from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.model import (
    Add,
    Close,
    Difference,
    Engine,
    Flush,
    Listen,
    Programme,
    Receive,
    Send,
    find_difference,
    replay,
)
from channels_trunk.testing.model.steps import Step
from channels_trunk.testing.model.suite import rig_of

pytestmark = pytest.mark.timeout(600)

CORE = Features.of_another_package(several_layers=False, expiry=False)
PUBSUB = Features.of_another_package(
    several_layers=False, capacity=False, expiry=False, normal_channels=False, remote_group_add=False
)


class Finding(NamedTuple):
    """A programme, and what the difference says."""

    steps: tuple[Step, ...]
    says: str


IN_CORE = {
    "close_pools() leaves the messages and the groups of the layer's own channels": Finding(
        (Add(1, "g", "0a"), Send(2, ("g",)), Close(0)), "not for it"
    ),
    "flush() ends the receive() of a waiting consumer": Finding(
        (Listen(0, "jobs"), Flush(0), Receive(2, "jobs")), "ConnectionError"
    ),
}
IN_PUBSUB = {
    "flush() forgets which channels are its own: they cannot join a group any more": Finding(
        (Add(1, "g", "1a"), Flush(1), Add(1, "g", "1a")), "RuntimeError"
    ),
}


def shows(backend: str, redis_url: str, features: Features, finding: Finding) -> None:
    layer = LayerUnderTest(backend=backend, config={"hosts": [redis_url]}, patience=0.5)
    with pytest.raises(Difference, match=finding.says):
        replay(layer, Programme(finding.steps), features=features)


@pytest.mark.parametrize("name", IN_CORE)
def test_in_channels_redis_core(name: str, redis_url: str) -> None:
    shows("channels_redis.core.RedisChannelLayer", redis_url, CORE, IN_CORE[name])


@pytest.mark.parametrize("name", IN_PUBSUB)
def test_in_channels_redis_pubsub(name: str, redis_url: str) -> None:
    shows("channels_redis.pubsub.RedisPubSubChannelLayer", redis_url, PUBSUB, IN_PUBSUB[name])


@pytest.mark.parametrize(
    ("backend", "features"),
    [("channels_redis.core.RedisChannelLayer", CORE), ("channels_redis.pubsub.RedisPubSubChannelLayer", PUBSUB)],
    ids=["core", "pubsub"],
)
def test_random_programmes_find_something_by_themselves(backend: str, features: Features, redis_url: str) -> None:
    layer = LayerUnderTest(backend=backend, config={"hosts": [redis_url]}, patience=0.5)
    rig = rig_of(layer, features=features, seed="controls", nodes_are="process")
    found = find_difference(rig, Engine(), programmes=50, shrink=False)
    assert found is not None
