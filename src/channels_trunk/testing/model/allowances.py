"""Where the documents leave open what a step comes to."""

import enum

__all__ = ["Allowance"]


class Allowance(enum.Enum):
    """Where two outcomes are right: the words of docs/explanation/guarantees.md that say so."""

    JOINS = "a channel that joins may get a message that another process sent a moment before"
    LEAVES = "a channel that leaves may go without a message that another process sent a moment before"
    SEVERAL_READERS = "they come behind younger ones"
    READER_KILLED = "a job that a killed process had claimed"
    FULL_MEMBER = "a group has a member whose channel is full"
    WINDOWS = "a sender's first messages are taken, up to the channel's capacity"
    HEARS_LATE = "Another process may hear a little late that a channel has room again"
    RECEIVED_BEFORE = "A receive() that was waiting may have its message already"
    CLOSED = "what is sent to its channels meanwhile is dropped"
    LOST = "the engine lost its data"
