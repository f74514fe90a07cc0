"""The suite on RabbitMQChannelLayer."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest

from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.conformance import Suite
from channels_trunk.testing.conformance.suite import rule_names
from tests.plugins.servers import RabbitServer
from tests.plugins.servers.rabbitmq import on_rabbitmq, running
from tools.server_table import NEWEST_RABBITMQ, RABBITMQ_40, Program

BACKEND = "channels_trunk.layers.RabbitMQChannelLayer"
# What depends on where in a cluster a queue is, if anything does: what processes say to each other, and who gets which
# job.
BETWEEN_PROCESSES = (
    *("between_nodes", "order_of", "each_job", "job_waits", "worker", "remote", "flush", "kill", "fork", "child"),
    *("normal_channel", "full_channel_of_another", "drained_channel_of_another"),
)
# What asks most of the broker itself: its queues' limits and order, its bindings, and what it does when a process ends.
IN_THE_BROKER = (
    *("each_job", "job_waits", "normal_channel", "order_of_send", "order_of_several", "full_channel_of_another"),
    *("flush_empties", "killed_worker", "killed_node"),
)
ABOUT_JOBS = ("normal_channel", "job", "worker")
NOT_OF_QUORUM_QUEUES = {
    "test_normal_channel_is_full_for_every_node": "a quorum queue takes a message or two beyond its length",
}


def all_but(words: Sequence[str], reason: str) -> dict[str, str]:
    """Leave out the rules in whose names none of these words is."""
    return {name: reason for name in rule_names() if not any(word in name for word in words)}


class TestRabbitMQ(Suite):
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def layer_config(self, rabbit: RabbitServer) -> LayerUnderTest:
        return LayerUnderTest(backend=BACKEND, config={"host": rabbit.fresh_vhost(), **self.options})


@pytest.fixture(scope="session")
def cluster(chosen_rabbitmq: Program) -> Iterator[Sequence[RabbitServer]]:
    """Three nodes, which nobody stops."""
    with running(["one", "two", "three"], program=chosen_rabbitmq) as nodes:
        for node in nodes:
            node.process.belongs_to_session()
        yield nodes


class TestRabbitMQCluster(Suite):
    """Between processes that are at different nodes of a cluster."""

    left_out = all_but(BETWEEN_PROCESSES, "the same as on a single node")

    @pytest.fixture
    def layer_config(self, cluster: Sequence[RabbitServer]) -> LayerUnderTest:
        vhost = cluster[0].fresh_vhost().rpartition("/")[2]
        # Each process begins with an address of its own choice.
        hosts = [node.url_for(vhost) for node in cluster]
        return LayerUnderTest(backend=BACKEND, config={"host": hosts})


class TestRabbitMQQuorum(TestRabbitMQ):
    """Normal channels in quorum queues."""

    options = {"queue_type": "quorum"}
    left_out = all_but(ABOUT_JOBS, "no normal channel is in it") | NOT_OF_QUORUM_QUEUES


@on_rabbitmq(RABBITMQ_40, NEWEST_RABBITMQ)
class TestOtherRabbitMQ(TestRabbitMQ):
    """Versions beside the system's: `--rabbitmq` runs all of it on one of them."""

    left_out = all_but(IN_THE_BROKER, "run on the system's RabbitMQ")


@on_rabbitmq(RABBITMQ_40, NEWEST_RABBITMQ)
class TestOtherRabbitMQQuorum(TestRabbitMQ):
    """Normal channels in quorum queues of those."""

    options = {"queue_type": "quorum"}
    left_out = all_but(("each_job", "job_waits", "as_member", "discarded_normal"), "as above") | NOT_OF_QUORUM_QUEUES
