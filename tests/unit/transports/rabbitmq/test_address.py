"""URLs of brokers."""

import ssl

import pytest

from channels_trunk.exceptions import OptionsError
from channels_trunk.layers import RabbitMQChannelLayer
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


@pytest.mark.parametrize(
    "url",
    [
        "amqp:/user:opensesame@host",
        "amqp:user:opensesame@host",
        "amqp:///user:opensesame@host",
        "amqp://user:open?sesame@host/",
        "amqp://user:open#sesame@host/",
        "amqp://user:open/sesame@host/",
        "amqps:/user:opensesame@host/vhost",
    ],
)
def test_a_misspelt_url_is_refused_and_its_password_is_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        parse_address(url)
    assert "open" not in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_an_ssl_context_with_a_plain_url_is_refused() -> None:
    context = ssl.create_default_context()
    with pytest.raises(OptionsError, match=r"\['ssl_context'\].*amqps://"):
        RabbitMQChannelLayer(host=["amqps://h", "amqp://user:opensesame@h"], ssl_context=context)
    RabbitMQChannelLayer(host="amqps://h", ssl_context=context)
