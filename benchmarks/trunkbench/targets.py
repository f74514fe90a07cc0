"""What the project promises, alone and against its peers, and whether this run shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trunkbench.driver import Outcome

# (workload, peer, figure)
Place = tuple[str, str, str]
Outcomes = Mapping[tuple[str, str], Outcome]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on `ours`, or on `ours` divided by `theirs`. Without a bound it is shown for comparison only."""

    title: str
    ours: Place
    theirs: Place | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def words(self) -> str:
        """The bound as a reader says it."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return f"at most {self.at_most:g}" if self.at_most is not None else "none"

    def met_by(self, value: float) -> bool | None:
        """Whether this value keeps it; None where there is no bound."""
        if self.at_least is not None:
            return value >= self.at_least
        return value <= self.at_most if self.at_most is not None else None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One target against this run."""

    target: Target
    value: float | None
    by_round: list[float]
    clean: bool

    @property
    def met(self) -> bool | None:
        """None if it cannot be said. A figure of ours with a fault in its ledger keeps no promise."""
        if self.value is None:
            return None
        met = self.target.met_by(self.value)
        return met if self.clean or met is None else False


def judge(target: Target, outcomes: Outcomes) -> Verdict:
    """The value from the medians, and from each round, as the measurements of a round are neighbours in time."""
    ours = outcomes.get(target.ours[:2])
    theirs = outcomes.get(target.theirs[:2]) if target.theirs else None
    if ours is None or (target.theirs and theirs is None):
        return Verdict(target=target, value=None, by_round=[], clean=True)
    tops, top = ours.by_round(target.ours[2]), ours.middle(target.ours[2])
    if target.theirs is None or theirs is None:
        return Verdict(target=target, value=top, by_round=[each for each in tops if each is not None], clean=ours.clean)
    bottoms, bottom = theirs.by_round(target.theirs[2]), theirs.middle(target.theirs[2])
    value = top / bottom if top is not None and bottom else None
    by_round = [mine / other for mine, other in zip(tops, bottoms, strict=False) if mine is not None and other]
    return Verdict(target=target, value=value, by_round=by_round, clean=ours.clean)


def _pubsub(workload: str, *, title: str, figure: str = "rate") -> Target:
    """SQLite against redis pub/sub, the faster of the two, without a bound."""
    places = [(workload, layer, figure) for layer in ("sqlite", "redis-pubsub")]
    return Target(title=f"{title}: SQLite / pubsub", ours=places[0], theirs=places[1])


def _postgres(
    workload: str, title: str, *, figure: str = "rate", at_least: float | None = None, at_most: float | None = None
) -> Target:
    """PostgreSQL against channels_postgres, on the same server."""
    ours, theirs = ((workload, layer, figure) for layer in ("postgres", "channels-postgres"))
    title = f"{title}: PostgreSQL / channels_postgres"
    return Target(title=title, ours=ours, theirs=theirs, at_least=at_least, at_most=at_most)


def _rabbitmq(
    workload: str, title: str, *, figure: str = "rate", at_least: float | None = None, at_most: float | None = None
) -> Target:
    """RabbitMQ against channels_rabbitmq, on the same broker."""
    ours, theirs = ((workload, layer, figure) for layer in ("rabbitmq", "channels-rabbitmq"))
    title = f"{title}: RabbitMQ / channels_rabbitmq"
    return Target(title=title, ours=ours, theirs=theirs, at_least=at_least, at_most=at_most)


def _orm(
    workload: str, title: str, *, figure: str, at_least: float | None = None, at_most: float | None = None
) -> Target:
    """By Django's ORM on SQLite, against channels-lite's layer that does the same."""
    ours, theirs = ((workload, layer, figure) for layer in ("database", "channels-lite"))
    title = f"{title}: ORM on SQLite / channels-lite ORM"
    return Target(title=title, ours=ours, theirs=theirs, at_least=at_least, at_most=at_most)


TARGETS: tuple[Target, ...] = (
    _orm("one_way_32", "one way, 32 senders", figure="rate", at_least=10),
    _orm("fan_out", "1,000 members in another process", figure="rate", at_least=10),
    _orm("from_idle", "from idle, median", figure="median", at_most=0.5),
    Target(
        title="one way, 32 senders: SQLite / pubsub",
        ours=("one_way_32", "sqlite", "rate"),
        theirs=("one_way_32", "redis-pubsub", "rate"),
        at_least=6,
    ),
    Target(
        title="one way, 32 senders: SQLite / core",
        ours=("one_way_32", "sqlite", "rate"),
        theirs=("one_way_32", "redis-core", "rate"),
        at_least=30,
    ),
    Target(
        title="round trip, median: SQLite / pubsub",
        ours=("round_trip", "sqlite", "median"),
        theirs=("round_trip", "redis-pubsub", "median"),
        at_most=0.7,
    ),
    Target(
        title="1,000 members in another process: SQLite / pubsub",
        ours=("fan_out", "sqlite", "rate"),
        theirs=("fan_out", "redis-pubsub", "rate"),
        at_least=1.5,
    ),
    # Pub/sub asks its server when a process joins a group for the first time and knows further members by itself:
    # only joins to groups that are new to the process compare what a join costs.
    Target(
        title="group_add to own groups, sequential: SQLite / pubsub",
        ours=("group_add_own_rooms", "sqlite", "sequential"),
        theirs=("group_add_own_rooms", "redis-pubsub", "sequential"),
        at_least=10,
    ),
    Target(
        title="group_add to own groups, 32 tasks: SQLite / pubsub",
        ours=("group_add_own_rooms", "sqlite", "tasks"),
        theirs=("group_add_own_rooms", "redis-pubsub", "tasks"),
        at_least=10,
    ),
    Target(
        title="one process, send and receive: SQLite / InMemory",
        ours=("one_process_pair", "sqlite", "rate"),
        theirs=("one_process_pair", "inmemory", "rate"),
        at_least=1.5,
    ),
    Target(
        title="one process, send and receive: Memory / InMemory",
        ours=("one_process_pair", "memory", "rate"),
        theirs=("one_process_pair", "inmemory", "rate"),
        at_least=1.5,
    ),
    Target(
        title="plain thread: layer.sync.group_send of SQLite / async_to_sync of core",
        ours=("sync_api", "sqlite", "rate"),
        theirs=("async_to_sync", "redis-core", "rate"),
        at_least=20,
    ),
    Target(
        title="plain thread: async_to_sync of SQLite / of core",
        ours=("async_to_sync", "sqlite", "rate"),
        theirs=("async_to_sync", "redis-core", "rate"),
        at_least=3,
    ),
    Target(title="1,000 blocked receivers, SQLite: % of a core", ours=("idle", "sqlite", "cpu"), at_most=0.1),
    Target(title="1,000 blocked receivers, SQLite: KiB each", ours=("idle", "sqlite", "traced"), at_most=1.465),
    Target(title="1,000 blocked receivers, SQLite: threads", ours=("idle", "sqlite", "threads"), at_most=2),
    _postgres("one_way_32", "one way, 32 senders", at_least=8),
    _postgres("round_trip", "round trip, median", figure="median", at_most=0.8),
    _postgres("large_message", "a message of 1 MB, median", figure="median", at_most=0.5),
    _postgres("fan_out", "1,000 members in another process", at_least=3),
    _postgres("group_add_own_rooms", "group_add to own groups, sequential", figure="sequential", at_least=10),
    _postgres("group_add_own_rooms", "group_add to own groups, 32 tasks", figure="tasks", at_least=10),
    _postgres("group_add_one_room", "group_add to one group, sequential", figure="sequential", at_least=10),
    _postgres("worker_channel_1", "worker channel, 1 consumer", at_least=5),
    Target(
        title="plain thread: layer.sync.group_send of PostgreSQL / async_to_sync of channels_postgres",
        ours=("sync_api", "postgres", "rate"),
        theirs=("async_to_sync", "channels-postgres", "rate"),
        at_least=5,
    ),
    _rabbitmq("one_way_32", "one way, 32 senders", at_least=3),
    _rabbitmq("round_trip", "round trip, median", figure="median", at_most=1),
    _rabbitmq("open_loop", "2,000 messages/s, p99", figure="p99", at_most=1),
    _rabbitmq("large_message", "a message of 1 MB, median", figure="median", at_most=1),
    _rabbitmq("fan_out", "1,000 members in another process", at_least=1.5),
    _rabbitmq("group_add_own_rooms", "group_add to own groups, sequential", figure="sequential", at_least=1.5),
    _rabbitmq("group_add_own_rooms", "group_add to own groups, 32 tasks", figure="tasks", at_least=1.5),
    _rabbitmq("group_add_one_room", "group_add to one group, sequential", figure="sequential", at_least=1.5),
    Target(
        title="plain thread: layer.sync.group_send of RabbitMQ, calls/s",
        ours=("sync_api", "rabbitmq", "rate"),
        at_least=1_000,
    ),
    _pubsub("one_way_1", title="one way, 1 sender"),
    _pubsub("group_add_one_room", title="group_add to one group, sequential", figure="sequential"),
    _pubsub("group_add_connect", title="new_channel and group_add to one group, sequential", figure="sequential"),
    _pubsub("worker_channel_1", title="worker channel, 1 consumer"),
)
