"""What a broker refuses, in this package's words, by reply code and never by text."""

from enum import Enum

from channels_trunk.exceptions import TransportError, TransportUnavailable

from .wire import Method, read_short

__all__ = [
    "ACCESS_REFUSED",
    "MEANINGS",
    "NOT_FOUND",
    "PRECONDITION_FAILED",
    "AmqpError",
    "Meaning",
    "read_close",
    "translated",
]


class Meaning(Enum):
    """What is to be done about a refusal."""

    AGAIN = "again at once"
    PASSES = "waits"  # the connection is made again, until it is over
    MESSAGE = "refuses this one"  # and what else is sent goes on
    PERSON = "ends the layer"  # until a person has mended it


ACCESS_REFUSED = 403
NOT_FOUND = 404
PRECONDITION_FAILED = 406
_NOT_ALLOWED = 530

# By the code and the method that was refused, or by the code alone (0). docs/explanation/rabbitmq.md says the same.
MEANINGS = {
    (200, 0): Meaning.PASSES,  # closed in good order
    (311, 0): Meaning.MESSAGE,  # larger than the broker takes
    (312, 0): Meaning.AGAIN,  # no queue took a message
    (313, 0): Meaning.PASSES,  # no consumer: never asked for
    (320, 0): Meaning.PASSES,  # an operator, or the broker stops
    (402, 0): Meaning.PERSON,  # a vhost with another name
    (ACCESS_REFUSED, 0): Meaning.PERSON,
    (NOT_FOUND, 0): Meaning.PASSES,  # it is made anew, or its broker comes back
    (405, 0): Meaning.PASSES,  # another connection has the queue; it ends
    (PRECONDITION_FAILED, 0): Meaning.PASSES,  # too many queues, a job that took too long
    (PRECONDITION_FAILED, Method.BASIC_PUBLISH): Meaning.MESSAGE,
    (PRECONDITION_FAILED, Method.EXCHANGE_DECLARE): Meaning.PERSON,
    (501, 0): Meaning.PASSES,  # from here on: the two did not understand each other
    (502, 0): Meaning.PASSES,
    (503, 0): Meaning.PASSES,
    (504, 0): Meaning.PASSES,
    (505, 0): Meaning.PASSES,
    (506, 0): Meaning.PASSES,  # no resources
    (_NOT_ALLOWED, 0): Meaning.PASSES,  # too many connections; and a vhost that is not there, which looks the same
    (540, 0): Meaning.PERSON,  # not implemented
    (541, 0): Meaning.PASSES,  # the broker itself, a vhost that is down
}
_REMEDIES = {
    (ACCESS_REFUSED, 0): "the user, the password or the user's permissions are wrong",
    (PRECONDITION_FAILED, Method.EXCHANGE_DECLARE): "something of this name was made with other options; delete it, or "
    "choose another name",
    (PRECONDITION_FAILED, Method.QUEUE_DECLARE): "a queue was made with other options, or the vhost may have no more",
    (PRECONDITION_FAILED, Method.BASIC_PUBLISH): "a message is larger than RabbitMQ takes; send less, or raise "
    "max_message_size in its rabbitmq.conf",
    (_NOT_ALLOWED, 0): "the vhost does not exist, or the user may not use it, or has as many connections as it may",
}


class AmqpError(Exception):
    """The broker closed a channel or the connection, or the connection ended (then `code` is 0)."""

    def __init__(self, text: str, code: int = 0, method: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.method = method
        """What it was that the broker refused, or 0."""

    @property
    def meaning(self) -> Meaning:
        """What is to be done."""
        return MEANINGS.get((self.code, self.method)) or MEANINGS.get((self.code, 0), Meaning.PASSES)

    @property
    def remedy(self) -> str:
        """What a person can do, or nothing."""
        return _REMEDIES.get((self.code, self.method)) or _REMEDIES.get((self.code, 0), "")

    def another(self) -> "AmqpError":
        """The same for another who waits: an exception that is raised twice grows a false traceback."""
        return AmqpError(str(self), self.code, self.method)


def read_close(payload: bytes) -> AmqpError:
    """Why the broker closes a channel or the connection, by the method that says so."""
    text, end = read_short(payload, 6)
    # Nobody is to be told of a method that is cut off.
    refused = int.from_bytes(payload[end : end + 4], "big")
    return AmqpError(text.decode(errors="replace"), int.from_bytes(payload[4:6], "big"), refused)


def translated(error: AmqpError | OSError, where: object, *, opening: bool = False) -> TransportError:
    """What `error` means: TransportUnavailable, or (at the first open alone) TransportError for a person to mend."""
    text = str(error) or type(error).__name__
    if isinstance(error, AmqpError):
        kind = TransportError if opening and error.meaning is Meaning.PERSON else TransportUnavailable
        return kind(f"RabbitMQ at {where}: {error.remedy} ({text})" if error.remedy else f"RabbitMQ at {where}: {text}")
    return TransportUnavailable(f"RabbitMQ at {where}: {text}")
