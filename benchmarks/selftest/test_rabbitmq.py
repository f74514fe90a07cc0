"""The private RabbitMQ, and which workloads its peers are left out of."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from trunkbench.peers import peer_named
from trunkbench.plan import Plan
from trunkbench.services import Services
from trunkbench.workloads.table import WORKLOADS


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder into which the server's account may look."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_broker_for_both_layers_that_leaves_nothing_behind(folder: Path) -> None:
    """Each measurement has names of its own on it."""
    with Services(data_directory=str(folder)) as services:
        assert services.rabbitmq.version().split(".")[0].isdigit()
        theirs = peer_named("channels-rabbitmq").config(services, "b1")
        assert theirs["groups_exchange"] == "b1.groups"
        ours = peer_named("rabbitmq").config(services, "b1")
        assert ours["prefix"] == "b1"
        assert ours["host"] == theirs["host"]
    assert not list(folder.iterdir())


def test_a_layer_is_left_out_of_what_it_cannot_do() -> None:
    """Worker channels, and callers without a loop."""
    peers = [peer_named("rabbitmq"), peer_named("channels-rabbitmq")]
    plan = Plan(workloads=WORKLOADS, peers=peers, rounds=1)
    alone = {each.name for each in WORKLOADS if plan.pairs(each) == peers[:1]}
    assert alone == {"sync_api", "async_to_sync", "worker_channel_1", "worker_channel_2", "worker_channel_4"}
