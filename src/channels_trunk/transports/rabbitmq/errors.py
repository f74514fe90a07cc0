"""What a broker refuses, in this package's words, by reply code and never by text."""

from channels_trunk.exceptions import TransportError, TransportUnavailable

__all__ = ["ACCESS_REFUSED", "NOT_FOUND", "PRECONDITION_FAILED", "AmqpError", "translated"]

ACCESS_REFUSED = 403
NOT_FOUND = 404
PRECONDITION_FAILED = 406
_NOT_ALLOWED = 530

_REMEDIES = {
    ACCESS_REFUSED: "the user, the password or the user's permissions are wrong",
    PRECONDITION_FAILED: "something of this name was made with other options; delete it, or choose another name",
    _NOT_ALLOWED: "the vhost does not exist, or the user may not use it",
}
_FATAL_AT_OPEN = frozenset(_REMEDIES)


class AmqpError(Exception):
    """The broker closed a channel or the connection, or the connection ended (then `code` is 0)."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code

    def another(self) -> "AmqpError":
        """The same for another who waits: an exception that is raised twice grows a false traceback."""
        return AmqpError(str(self), self.code)


def translated(error: AmqpError | OSError, where: object, *, opening: bool = False) -> TransportError:
    """What `error` means: TransportUnavailable, or (at the first open alone) TransportError for a person to mend."""
    code = error.code if isinstance(error, AmqpError) else 0
    kind = TransportError if opening and code in _FATAL_AT_OPEN else TransportUnavailable
    if code in _REMEDIES:
        return kind(f"RabbitMQ at {where}: {_REMEDIES[code]} ({error})")
    text = str(error) or type(error).__name__
    return kind(f"RabbitMQ at {where}: {text}")
