"""Where the documents leave open what a step comes to, and where they do not."""

import enum

__all__ = ["Allowance", "Difference"]


class Difference(AssertionError):
    """The layer did what is not allowed."""


class Allowance(enum.Enum):
    """Where two outcomes are right: the words of docs/explanation/guarantees.md that say so."""

    JOINS = "a channel that joins may get a message that another process sent a moment before"
    LEAVES = "a channel that leaves may go without a message that another process sent a moment before"
    SEVERAL_READERS = "they come behind younger ones"
    READER_KILLED = "its mailboxes are memory, and so are the jobs that it has claimed"
    FULL_MEMBER = "a group has a member whose channel is full"
    WINDOWS = "the first messages of another process are taken, up to the channel's capacity, whatever others sent"
    HEARS_LATE = "Another process may hear a little late that the channel has room again"
    RECEIVED_BEFORE = "A receive() that was waiting may have its message already"
    CLOSED = "What is sent to a closed layer's own channels is dropped"
    LOST = "the engine lost its data"
    RESTORED = "the jobs that it holds come, though they may have come before"
