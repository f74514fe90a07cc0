"""The numbers of a layer: one vocabulary for stats(), logs and whatever shows them."""

import msgspec

__all__ = ["LayerStats", "Survey"]


class LayerStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one layer object in one process. `*_total` only grow, `*_current` come and go."""

    node: str
    """The id of this node."""
    delivered_total: int
    """Messages put into this node's mailboxes."""
    sent_total: int
    """Envelopes that the transport took."""
    batches_total: int
    """Batches in which it took them."""
    failed_total: int
    """Envelopes that could not be sent; their senders got an error."""
    dropped_overflow_total: int
    """Messages that a full channel went without."""
    dropped_expired_total: int
    """Messages that nobody took in time."""
    dropped_resilience_total: int
    """Messages dropped on purpose, by the option `resilience`."""
    skipped_frames_total: int
    """Frames that could not be decoded or decrypted."""
    gaps_total: int
    """Times that the engine may have lost messages for this node."""
    reconnects_total: int
    """Times that the engine was reached again after it was away."""
    channels_current: int
    """Mailboxes at this node."""
    groups_current: int
    """Groups that have members at this node."""
    memberships_current: int
    """Members of groups at this node."""
    outbox_current: int
    """Envelopes that wait to be sent."""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine holds for the layers with one prefix: a look from outside, while messages come and go."""

    waiting: dict[str, int]
    """How many messages are stored for each normal channel; expired ones may be among them."""
    log_rows: int | None
    """Rows of the log, of all prefixes; None: there is no log."""
    size_bytes: int | None
    """What all of it takes, of all prefixes: the file with its WAL, or the tables with their indexes; None: unknown."""
