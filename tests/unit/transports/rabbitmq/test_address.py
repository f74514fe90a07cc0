"""URLs of brokers."""

import pytest

from channels_trunk.transports.rabbitmq import Address, parse_address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://", ("127.0.0.1", 5672, "/", "guest", "guest", False)),
        ("amqp://h", ("h", 5672, "/", "guest", "guest", False)),
        ("amqp://h/", ("h", 5672, "/", "guest", "guest", False)),
        ("amqp://u:p%40%3A%2F@h:1/%2F", ("h", 1, "/", "u", "p@:/", False)),
        ("amqps://u:p@h/v%2Fw", ("h", 5671, "v/w", "u", "p", True)),
        ("amqp://u:p@[::1]:99/v", ("::1", 99, "v", "u", "p", False)),
    ],
)
def test_urls(url: str, expected: tuple[object, ...]) -> None:
    assert tuple(parse_address(url))[:6] == expected


def test_parameters() -> None:
    address = parse_address("amqp://h/?heartbeat=2.5&connection_timeout=1")
    assert (address.heartbeat, address.connection_timeout) == (2.5, 1.0)


def test_an_address_shows_no_password() -> None:
    address = Address("::1", 5, "v", "user", "s3cr3t", False)
    assert f"{address} {address!r}" == "[::1]:5, vhost 'v' <RabbitMQ at [::1]:5, vhost 'v'>"
