"""RabbitMQ as a transport: one queue for each node, one exchange for groups, one queue for each normal channel."""

from .address import Address, parse_address
from .settings import RabbitMQSettings
from .transport import RabbitMQTransport

__all__ = ["Address", "RabbitMQSettings", "RabbitMQTransport", "parse_address"]
