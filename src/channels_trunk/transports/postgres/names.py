"""Names in the database: tables, locks and notification channels. Pure."""

import hashlib
import re
import zlib
from collections.abc import Iterable
from importlib import resources
from typing import NamedTuple

from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.names import channel_owner

__all__ = ["LEAP", "SCHEMA_VERSION", "Names", "lock_key_of", "schema_script"]

SCHEMA_VERSION = 2
SHARDS = 64
# By so much the ids of the log go up where somebody but the layer has emptied it; by a half of it nothing else does.
LEAP = 1 << 32
LOCK_CLASS = 0x54524B31  # "TRK1": of the lock that serialises appends; the next one says that a node lives
ALIVE_CLASS = LOCK_CLASS + 1
HINT_CLASS = LOCK_CLASS + 2  # that somebody needs the hints of a shard
# Where the log begins and ends: expressions for a query of {p}state.
LOWEST = "coalesce(least((SELECT min(id) FROM {p}log_0), (SELECT min(id) FROM {p}log_1)), base + 1)"
HEAD = "greatest((SELECT max(id) FROM {p}log_0), (SELECT max(id) FROM {p}log_1), base)"
# What expires does so by the server's clock, as a process's own may be wrong. Seconds.
NOW = "date_part('epoch', clock_timestamp())"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")


def is_plain_name(name: str) -> bool:
    """Whether a schema or a beginning of names is one that needs no thought about quotes and lengths."""
    return bool(_PLAIN.fullmatch(name))


def is_odd_schema(name: str) -> bool:
    """Whether a schema's name has what would end a string, a body or a template of ours, as quotes do."""
    return any(character in name for character in "'\"{}%$\\")


def lock_key_of(text: str) -> int:
    """A signed 32 bit number, as advisory locks take it."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big", signed=True)


class Names(NamedTuple):
    """Of one set of tables."""

    schema: str
    table_prefix: str

    def table(self, name: str) -> str:
        """A table or function, for a statement."""
        return f'"{self.schema}".{self.table_prefix.lower()}{name}'

    @property
    def lock_key(self) -> int:
        """What appends to these tables lock."""
        return lock_key_of(f"{self.schema}.{self.table_prefix.lower()}")

    def fill(self, template: str) -> str:
        """A statement from one with {p}, {i}, {lock_class}, {lock_key}, {alive_class}, {hint_class} and {leap}."""
        for name, value in (
            ("p", self.table("")),
            ("i", self.table_prefix.lower()),
            ("lock_class", str(LOCK_CLASS)),
            ("lock_key", str(self.lock_key)),
            ("alive_class", str(ALIVE_CLASS)),
            ("hint_class", str(HINT_CLASS)),
            ("leap", str(LEAP)),
        ):
            template = template.replace(f"{{{name}}}", value)
        return template

    def bells(self, prefix: str) -> "Bells":
        """The notification channels of the layers with this prefix."""
        digest = hashlib.sha256(f"{self.schema}.{self.table_prefix.lower()} {prefix}".encode()).hexdigest()
        return Bells(f"trunk_{digest[:12]}")


class Bells(NamedTuple):
    """Notification channels: of each node, of all nodes, and of groups and normal channels, in shards of either."""

    stem: str

    def node(self, node: str) -> str:
        """For one node."""
        return f"{self.stem}_n_{node}"

    @property
    def everybody(self) -> str:
        """For every node."""
        return f"{self.stem}_all"

    def group(self, group: str) -> str:
        """For the nodes with members of a group, and of others."""
        return f"{self.stem}_g{_shard(group)}"

    def of_groups(self, groups: Iterable[str]) -> frozenset[str]:
        """For the nodes with members of any of these groups."""
        found: set[str] = set()
        for group in groups:
            found.add(self.group(group))
            if len(found) == SHARDS:
                break  # there are no others, however many groups
        return frozenset(found)

    def queue(self, channel: str) -> str:
        """For the nodes that wait for messages of a normal channel, or of others."""
        return f"{self.stem}_q{_shard(channel)}"

    def of(self, envelope: Envelope) -> str:
        """For the nodes that an envelope of the log concerns."""
        if envelope.kind == Kind.GROUP:
            return self.group(envelope.target)
        if envelope.target == EVERY_NODE:
            return self.everybody
        owner = envelope.target if envelope.kind == Kind.CONTROL else channel_owner(envelope.target)
        return self.node(owner or "")


def is_for_queues(bell: str) -> bool:
    """Whether a notification channel is for normal channels."""
    return bell.split("_")[2].startswith("q")


def _shard(name: str) -> int:
    return zlib.crc32(name.encode()) % SHARDS


def schema_script(names: Names) -> str:
    """The statements that make everything."""
    return names.fill(resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8"))
