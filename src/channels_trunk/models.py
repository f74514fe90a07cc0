"""The tables of DatabaseChannelLayer. Nobody but its transport reads or writes them.

Names are stored in a form in which databases that take "Room" and "room" for equal still tell them apart; see
`transports.database.names`. Times are seconds since 1970.
"""

from django.db import models

__all__ = ["LogRow", "Member", "Node", "QueuedMessage", "Sequencer"]

# A name has 100 characters at most, and twice as many in its stored form.
_NAME = 200


class Sequencer(models.Model):
    """The head of one prefix's log. Whoever appends holds its row locked to the commit, so rows are seen in order."""

    prefix = models.CharField(max_length=_NAME, primary_key=True)
    epoch = models.BigIntegerField()
    position = models.BigIntegerField()
    """Of the newest row of the log; microseconds since 1970, if the log has not grown faster."""
    back = models.BigIntegerField()
    """The rank of the newest message of a normal channel."""
    front = models.BigIntegerField()
    """The rank of the message that was given back last."""
    generation = models.BigIntegerField()
    """Another one with every change of the nodes and members."""
    roll = models.BigIntegerField(default=0)
    """Another one when a node asks who is there; all others answer with a heartbeat."""


class LogRow(models.Model):
    """A batch of envelopes of one node."""

    id = models.BigAutoField(primary_key=True)
    prefix = models.CharField(max_length=_NAME)
    position = models.BigIntegerField()
    origin = models.CharField(max_length=_NAME)
    expires_at = models.FloatField()
    frame = models.BinaryField()
    previous = models.BigIntegerField(null=True)
    """The position of the row before: who has read another one there has missed something."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["prefix", "position"], name="channels_trunk_log_position")]


class QueuedMessage(models.Model):
    """A message of a normal channel."""

    id = models.BigAutoField(primary_key=True)
    prefix = models.CharField(max_length=_NAME)
    channel = models.CharField(max_length=_NAME)
    rank = models.BigIntegerField()
    expires_at = models.FloatField()
    frame = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=["prefix", "channel", "rank"], name="channels_trunk_queue_rank")]


class Member(models.Model):
    """A normal channel in a group. (Process-specific members live in their owner's memory.)"""

    id = models.BigAutoField(primary_key=True)
    prefix = models.CharField(max_length=_NAME)
    group_name = models.CharField(max_length=_NAME)
    channel = models.CharField(max_length=_NAME)
    expires_at = models.FloatField(null=True)
    """None: never."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["prefix", "group_name", "channel"], name="channels_trunk_member_once")
        ]


class Node(models.Model):
    """A layer object of a process that takes part, and how far it has read."""

    node = models.CharField(max_length=_NAME, primary_key=True)
    prefix = models.CharField(max_length=_NAME)
    position = models.BigIntegerField()
    seen_at = models.FloatField()
    receipt = models.CharField(max_length=32, default="")
    """What the node wrote with its latest claim: by it the node sees whether a commit that was cut off was done."""
