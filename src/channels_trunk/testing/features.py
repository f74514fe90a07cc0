"""What a layer under test is, and which of the suite's rules it claims to keep."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

__all__ = ["Features", "LayerUnderTest"]


@dataclass(frozen=True, kw_only=True)
class Features:
    """What the layer claims. A rule that needs a feature which is not claimed is not run.

    A feature is for what a layer does not set out to do. What it sets out to do and gets wrong belongs into
    `Suite.expected_failures`, by name and with a reason.
    """

    # Where it works
    crosses_processes: bool = True
    """Processes with the same configuration reach each other."""
    several_layers: bool = True
    """Two layer objects of one process with the same configuration reach each other."""
    many_loops: bool = True
    """One layer object serves several event loops and threads, one after the other and at once."""
    after_fork: bool = True
    """A layer object that was used before a fork works in the child and in the parent."""

    # The specification's extensions
    groups: bool = True
    flush: bool = True

    # What goes beyond the specification
    prefix: bool = True
    """Layers with different `prefix` share an engine and nothing else."""
    capacity: bool = True
    """`capacity` and `channel_capacity`: a full channel makes send() raise ChannelFull, in every process."""
    expiry: bool = True
    group_expiry: bool = True
    normal_channels: bool = True
    """Any process may read a normal channel; each message goes to one reader and waits for one that comes later."""
    remote_group_add: bool = True
    """group_add() and group_discard() of another node's channel hold when the call returns."""
    foreign_names: bool = True
    """A name with `!` that no node made is a normal channel by its full name."""
    cancellation_safe: bool = True
    """A receive() that is cancelled loses nothing."""
    rich_values: bool = True
    """Subclasses and lazy strings as Django hands them out; datetime, date, UUID and Decimal."""
    refuses_unpackable: bool = True
    """What cannot be packed raises TypeError when it is sent, naming the path of the value."""
    strict_options: bool = True
    """An option that the layer does not know is refused when the layer is made."""
    message_size: bool = True
    """`max_message_size`: a larger message raises MessageTooLarge."""
    encryption: bool = True
    """`symmetric_encryption_keys`, as channels_redis has them."""
    json: bool = True
    """`serializer_format="json"`."""

    # What only the layers of this package offer
    sync_api: bool = True
    """`layer.sync`: every method as a plain blocking call."""
    statistics: bool = True
    """`layer.stats()` and `layer.health()`."""
    resilience: bool = True
    """`resilience={"drop": ...}`: messages get lost on purpose."""
    frees_itself: bool = True
    """A layer object that is dropped without close() leaves no thread and no file descriptor behind."""

    @classmethod
    def of_another_package(cls, **changes: bool) -> Self:
        """Return the features of a layer without what only the layers of this package offer."""
        ours = {"sync_api", "statistics", "resilience", "frees_itself"}
        return cls(**(dict.fromkeys(ours, False) | changes))

    def include(self, needs: tuple[str, ...]) -> bool:
        """Return whether all of `needs` are claimed; raises AttributeError for a name that is no feature."""
        return all(getattr(self, name) for name in needs)

    def kinds_of_peers(self) -> list[str]:
        """Return the kinds of peers that the layer can reach: see Rig."""
        kinds = {"thread": self.several_layers, "process": self.crosses_processes}
        return [kind for kind, claimed in kinds.items() if claimed]

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the names of all features."""
        return frozenset(item.name for item in fields(cls))


@dataclass(frozen=True, kw_only=True)
class LayerUnderTest:
    """One layer as CHANNEL_LAYERS names it, and how the suite has to treat it."""

    backend: str
    """The dotted path of the layer's class, as BACKEND has it."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The keyword arguments, as CONFIG has them. They are pickled to the peer processes."""
    django_settings: Mapping[str, Any] = field(default_factory=dict)
    """Passed to django.conf.settings.configure() in the peer processes."""
    shortest_expiry: float = 0.3
    """The shortest `expiry`, in seconds, that the layer can keep."""
    shortest_group_expiry: float = 1
    """The shortest `group_expiry`, in seconds."""
    threads: int = 1
    """How many threads a layer object has at most, however many receivers wait."""
    scale: float = 1.0
    """What the numbers of messages are multiplied with; smaller for a slow layer."""
    patience: float = 1.0
    """What the seconds are multiplied with that a rule waits for a message; smaller for a layer that loses some,
    larger on a machine that is busy."""
