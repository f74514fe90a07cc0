"""The table of the targets: a new one is one more row.

A promise has been kept and must not be broken; an aim is what the layers are made faster for.
"""

from __future__ import annotations

from functools import partial

from trunkbench.targets import Place, Target

PEER_OF = {
    "postgres": "channels-postgres",
    "rabbitmq": "channels-rabbitmq",
    "database": "channels-lite",
}
LABELS = {
    "sqlite": "SQLite",
    "memory": "Memory",
    "postgres": "PostgreSQL",
    "rabbitmq": "RabbitMQ",
    "database": "ORM on SQLite",
    "redis-pubsub": "pubsub",
    "redis-core": "core",
    "inmemory": "InMemory",
    "channels-postgres": "channels_postgres",
    "channels-rabbitmq": "channels_rabbitmq",
    "channels-lite": "channels-lite ORM",
    "bare": "the bare machine",
}
ACROSS_PROCESSES = ("redis-pubsub", "redis-core", "channels-lite", "channels-lite-aio", "channels-postgres")
THIRD = 4 / 3

WORDS = {
    "one_way_32": "one way, 32 senders",
    "one_way_1": "one way, 1 sender",
    "round_trip": "round trip, median",
    "from_idle": "from idle, median",
    "open_loop": "2,000 messages/s, p99",
    "large_message": "a message of 1 MB, median",
    "fan_out": "1,000 members in another process",
    "group_add_own_rooms": "group_add to own groups",
    "group_add_one_room": "group_add to one group",
    "group_add_connect": "new_channel and group_add to one group",
    "one_process_pair": "one process, send and receive",
    "one_process_fan_out": "one process, 1,000 members",
    "sync_api": "plain thread, layer.sync.group_send",
    "async_to_sync": "plain thread, async_to_sync(group_send)",
    "worker_channel_1": "worker channel, 1 consumer",
    "idle": "1,000 blocked receivers",
}
# What the title of a workload leaves open.
FIGURES = {
    "sequential": ", sequential",
    "tasks": ", 32 tasks",
    "cpu": ", % of a core",
    "traced": ", KiB each",
    "threads": ", threads",
}


def promise(
    workload: str,
    ours: str,
    theirs: str | None = None,
    *,
    figure: str = "rate",
    theirs_in: str | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    kind: str = "",
) -> Target:
    """A figure of one of our layers, against the same of a peer (perhaps in another workload) if there is one."""
    way = FIGURES.get(figure, "")
    against = f" / {LABELS[theirs]}" if theirs else ""
    return Target(
        title=f"{kind}{WORDS[workload]}{way}: {LABELS[ours]}{against}",
        ours=(workload, ours, figure),
        theirs=(theirs_in or workload, theirs, figure) if theirs else None,
        at_least=at_least,
        at_most=at_most,
    )


aim = partial(promise, kind="aim: ")


def _by_a_third(workload: str, ours: str, *, figure: str = "rate", least: float = 0, most: float = 0) -> list[Target]:
    """The promise to the layer's own peer, and the aim to exceed it by a third."""
    theirs = PEER_OF[ours]
    if least:
        bounds = (promise(workload, ours, theirs, figure=figure, at_least=least),)
        return [*bounds, aim(workload, ours, theirs, figure=figure, at_least=least * THIRD)]
    bounds = (promise(workload, ours, theirs, figure=figure, at_most=most),)
    return [*bounds, aim(workload, ours, theirs, figure=figure, at_most=most / THIRD)]


def _best(workload: str, ours: str, rivals_in: str, *, at_least: float, proofs: tuple[str, ...] = ()) -> Target:
    """An aim against the best peer whose ledger shows no fault."""
    rivals: tuple[Place, ...] = tuple((rivals_in, rival, "rate") for rival in ACROSS_PROCESSES)
    title = f"aim: {WORDS[workload]}: {LABELS[ours]} / the best peer without a fault"
    return Target(title=title, ours=(workload, ours, "rate"), rivals=rivals, proofs=proofs, at_least=at_least)


def _best_at_jobs(ours: str) -> Target:
    # With one consumer, a peer that gives each job to every consumer looks like one that gives it to one of them.
    proofs = ("worker_channel_2", "worker_channel_4")
    return _best("worker_channel_1", ours, "worker_channel_1", at_least=5, proofs=proofs)


SQLITE = (
    promise("one_way_32", "sqlite", "redis-pubsub", at_least=6),
    aim("one_way_32", "sqlite", "redis-pubsub", at_least=10),
    promise("one_way_32", "sqlite", "redis-core", at_least=30),
    aim("one_way_32", "sqlite", "redis-core", at_least=62),
    promise("round_trip", "sqlite", "redis-pubsub", figure="median", at_most=0.7),
    aim("round_trip", "sqlite", "redis-pubsub", figure="median", at_most=0.4),
    aim("open_loop", "sqlite", "redis-pubsub", figure="p99", at_most=1),
    promise("fan_out", "sqlite", "redis-pubsub", at_least=1.5),
    aim("fan_out", "sqlite", "redis-pubsub", at_least=2.5),
    # Pub/sub asks its server when a process joins a group for the first time and knows further members by itself:
    # only joins to groups that are new to the process compare what a join costs.
    promise("group_add_own_rooms", "sqlite", "redis-pubsub", figure="sequential", at_least=10),
    promise("group_add_own_rooms", "sqlite", "redis-pubsub", figure="tasks", at_least=10),
    promise("sync_api", "sqlite", "redis-core", theirs_in="async_to_sync", at_least=20),
    promise("async_to_sync", "sqlite", "redis-core", at_least=3),
    promise("idle", "sqlite", figure="cpu", at_most=0.1),
    promise("idle", "sqlite", figure="traced", at_most=1.465),
    promise("idle", "sqlite", figure="threads", at_most=2),
)

ONE_PROCESS = tuple(
    target
    for ours in ("sqlite", "memory")
    for target in (
        promise("one_process_pair", ours, "inmemory", at_least=1.5),
        aim("one_process_pair", ours, "inmemory", at_least=2),
        aim("one_process_fan_out", ours, "bare", theirs_in="bare_futures", at_least=0.4),
    )
)

POSTGRES = (
    *_by_a_third("one_way_32", "postgres", least=8),
    aim("one_way_32", "postgres", "redis-pubsub", at_least=1),
    *_by_a_third("round_trip", "postgres", figure="median", most=0.8),
    *_by_a_third("large_message", "postgres", figure="median", most=0.5),
    *_by_a_third("fan_out", "postgres", least=3),
    *_by_a_third("group_add_own_rooms", "postgres", figure="sequential", least=10),
    *_by_a_third("group_add_own_rooms", "postgres", figure="tasks", least=10),
    *_by_a_third("group_add_one_room", "postgres", figure="sequential", least=10),
    *_by_a_third("worker_channel_1", "postgres", least=5),
    promise("sync_api", "postgres", "channels-postgres", theirs_in="async_to_sync", at_least=5),
    aim("sync_api", "postgres", "channels-postgres", theirs_in="async_to_sync", at_least=5 * THIRD),
)

RABBITMQ = (
    *_by_a_third("one_way_32", "rabbitmq", least=3),
    *_by_a_third("round_trip", "rabbitmq", figure="median", most=1),
    *_by_a_third("open_loop", "rabbitmq", figure="p99", most=1),
    *_by_a_third("large_message", "rabbitmq", figure="median", most=1),
    *_by_a_third("fan_out", "rabbitmq", least=1.5),
    *_by_a_third("group_add_own_rooms", "rabbitmq", figure="sequential", least=1.5),
    *_by_a_third("group_add_own_rooms", "rabbitmq", figure="tasks", least=1.5),
    *_by_a_third("group_add_one_room", "rabbitmq", figure="sequential", least=1.5),
    promise("sync_api", "rabbitmq", at_least=1_000),
    aim("sync_api", "rabbitmq", at_least=1_000 * THIRD),
)

DATABASE = (
    promise("one_way_32", "database", "channels-lite", at_least=10),
    promise("fan_out", "database", "channels-lite", at_least=10),
    promise("from_idle", "database", "channels-lite", figure="median", at_most=0.5),
)

AGAINST_THE_BEST = (
    *(_best_at_jobs(ours) for ours in ("sqlite", "postgres", "rabbitmq", "database")),
    _best("sync_api", "sqlite", "async_to_sync", at_least=40),
    _best("sync_api", "postgres", "async_to_sync", at_least=5),
    _best("sync_api", "rabbitmq", "async_to_sync", at_least=5),
)

# Where pub/sub is faster, or nothing was promised.
SHOWN = (
    promise("one_way_1", "sqlite", "redis-pubsub"),
    promise("group_add_one_room", "sqlite", "redis-pubsub", figure="sequential"),
    promise("group_add_connect", "sqlite", "redis-pubsub", figure="sequential"),
    promise("worker_channel_1", "sqlite", "redis-pubsub"),
)

TARGETS: tuple[Target, ...] = (
    *SQLITE,
    *ONE_PROCESS,
    *POSTGRES,
    *RABBITMQ,
    *DATABASE,
    *AGAINST_THE_BEST,
    *SHOWN,
)
