"""Wrong settings and brokers that refuse: each with the error that the user sees, and no password in any of them."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiormq
import pytest

from channels_trunk.exceptions import OptionsError, TransportError
from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.testing.ports import LOOPBACK, free_port
from channels_trunk.testing.proxy import stop_listening
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer, is_ok, unreached
from tests.plugins.servers import RabbitServer

SECRET = "s3cr3t"
BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"host": 5}, r"\['host'\]: must be a URL, amqp://user:password@host:port/vhost, or a list of them"),
    ({"host": []}, r"\['host'\]: must be a URL"),
    ({"host": f"http://u:{SECRET}@h/"}, r"\['host'\]: must be a URL that begins with amqp:// or amqps://"),
    ({"host": f"amqp://u:{SECRET}@[h/"}, r"\['host'\]: is not a URL"),
    ({"host": f"amqp://u:{SECRET}@h:port/"}, r"\['host'\]: the URL's port must be a number between 1 and 65535"),
    ({"host": f"amqp://u:{SECRET}@h:0/"}, r"\['host'\]: the URL's port must be a number"),
    ({"host": f"amqp://u:{SECRET}#@h/"}, r"\['host'\]: the URL has an '@' behind its host; .* in a password"),
    ({"host": f"amqp://u:{SECRET}@h/one/two"}, r"\['host'\]: the URL has more than one name in its path"),
    (
        {"host": f"amqp://u:{SECRET}@h/?hartbeat=5"},
        r"unknown parameter 'hartbeat'; known are 'heartbeat'",
    ),
    ({"host": f"amqp://u:{SECRET}@h/?heartbeat=0"}, r"heartbeat must be a number of seconds between 1 and 3600"),
    ({"host": f"amqp://u:{SECRET}@h/?heartbeat=soon"}, r"heartbeat must be a number of seconds .* not 'soon'"),
    ({"ssl_context": True}, r"\['ssl_context'\]: must be an ssl.SSLContext, not bool"),
    ({"queue_type": "stream"}, r"\['queue_type'\]: must be 'classic' or 'quorum', not 'stream'"),
    ({"durable": "yes"}, r"\['durable'\]: must be True or False, not 'yes'"),
    ({"prefetch_count": 0}, r"\['prefetch_count'\]: must be a whole number of at least 1, not 0"),
    ({"prefetch_count": 70_000}, r"\['prefetch_count'\]: must be 65535 at most, not 70000"),
    ({"remote_capacity": 1.5}, r"\['remote_capacity'\]: must be a whole number of at least 1, not 1.5"),
    ({"local_capacity": -1}, r"\['local_capacity'\]: must be a whole number of at least 1, not -1"),
    ({"groups_exchange": "amq.direct"}, r"\['groups_exchange'\]: must be at most 100 printable ASCII characters"),
    ({"prefetch": 5}, r"unknown option 'prefetch'; did you mean 'prefix'\?|unknown option 'prefetch'"),
]


@pytest.mark.parametrize(("config", "expected"), BAD_OPTIONS)
def test_bad_options(config: dict[str, Any], expected: str) -> None:
    with pytest.raises(OptionsError, match=expected) as caught:
        RabbitMQChannelLayer(**config)
    assert SECRET not in str(caught.value)


def test_options_of_channels_rabbitmq_are_taken() -> None:
    layer = RabbitMQChannelLayer(
        host="amqps://guest:guest@127.0.0.1/asgi",
        local_capacity=7,
        remote_capacity=100,
        expiry=30,
        local_expiry=None,
        group_expiry=86400,
        prefetch_count=10,
        groups_exchange="groups",
        ssl_context=ssl.create_default_context(),
    )
    assert layer.get_capacity("any") == 7
    assert RabbitMQChannelLayer(local_capacity=7, capacity=9).get_capacity("any") == 9


async def refused(layer: RabbitMQChannelLayer, expected: str) -> str:
    with pytest.raises(TransportError, match=expected) as caught:
        await layer.new_channel()
    return f"{caught.value!r} {layer.health()}"


async def test_brokers_that_refuse_for_good(make_layer: MakeLayer, broker: RabbitServer, url: str) -> None:
    password = url.partition("@")[0].rpartition(":")[2]
    wrong = make_layer(host=url.replace(password, SECRET))
    text = await refused(wrong, r"vhost 'v\w+': the user, the password or the user's permissions are wrong")
    assert wrong.health().state == "failed"
    vhost = url.rpartition("/")[2]
    user = f"poor-{vhost}"
    broker.ctl("add_user", user, SECRET)
    broker.ctl("set_permissions", "--vhost", vhost, user, "^$", "^$", ".*")
    poor = make_layer(host=f"amqp://{user}:{SECRET}@{broker.host}:{broker.port}/{vhost}")
    text += await refused(poor, r"the user's permissions are wrong .*asgi.groups")
    assert SECRET not in text
    assert password not in text
    # As soon as it is mended, the next call works.
    broker.ctl("set_permissions", "--vhost", vhost, user, ".*", ".*", ".*")
    await poor.new_channel()


async def test_a_vhost_that_is_not_there_or_has_as_many_connections_as_it_may(
    make_layer: MakeLayer, broker: RabbitServer, url: str
) -> None:
    """Brokers say the same of both."""
    missing = make_layer(host=broker.url_for("nowhere"), send_timeout=1)
    await unreached(missing, r"vhost 'nowhere': the vhost does not exist, or the user may not use it.*not found")
    vhost = url.rpartition("/")[2]
    broker.ctl("set_vhost_limits", "--vhost", vhost, '{"max-connections": 0}')
    layer = make_layer(send_timeout=1)
    await unreached(layer, r"or has as many connections as it may.*connection limit \(0\) is reached")
    receiving = asyncio.ensure_future(layer.receive("jobs"))
    broker.ctl("clear_vhost_limits", "--vhost", vhost)
    await is_ok(layer, within=60)
    await layer.send("jobs", HELLO)
    assert await asyncio.wait_for(receiving, 60) == HELLO


async def test_brokers_that_are_not_there(make_layer: MakeLayer) -> None:
    config = {"send_timeout": 0.5}
    refusing = make_layer(host=f"amqp://u:{SECRET}@{LOOPBACK}:{free_port()}/", **config)
    told = await unreached(refusing, r"send_timeout=0.5 s: RabbitMQ at .*Connect call failed")
    assert SECRET not in told
    assert refusing.health().state == "away"
    async with something_else(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        other = make_layer(host=f"amqp://u:{SECRET}@{LOOPBACK}:{port}/", **config)
        await unreached(other, r"not AMQP 0-9-1|closed by the other side")
    async with something_else(b"") as port:
        silent = make_layer(host=f"amqp://u:{SECRET}@{LOOPBACK}:{port}/?connection_timeout=1", send_timeout=2)
        await unreached(silent, r"no answer within 1 s")


async def test_tls_where_there_is_none(make_layer: MakeLayer, url: str) -> None:
    layer = make_layer(host=url.replace("amqp://", "amqps://"), send_timeout=1)
    await unreached(layer, r"(?i)ssl|closed|no answer")


async def test_what_is_no_message_is_skipped(make_layer: MakeLayer, url: str) -> None:
    layer = make_layer()
    channel = await layer.new_channel()
    node = layer.stats().node
    await layer.send("jobs", {"type": "first"})
    frame = "application/vnd.channels-trunk.frame"
    async with await aiormq.connect(url) as connection:
        other = await connection.channel()
        for body, kind in ((b"\xc1", None), (b"junk", frame), (b"", frame), (b"\x90", None), (b"\x09\x00", frame)):
            properties = aiormq.spec.Basic.Properties(content_type=kind)
            await other.basic_publish(body, exchange="asgi.groups", routing_key=f"!{node}", properties=properties)
            await other.basic_publish(body, routing_key="asgi.channel.jobs", properties=properties)
    await layer.send("jobs", {"type": "second"})
    async with asyncio.timeout(60):
        assert [await layer.receive("jobs") for _ in range(2)] == [{"type": "first"}, {"type": "second"}]
    # To the node's queue and to that of the jobs: the one may be read later than the other.
    await eventually(lambda: layer.stats().skipped_frames_total == 10, within=20)
    await layer.send(channel, {"type": "still"})
    assert await layer.receive(channel) == {"type": "still"}


@asynccontextmanager
async def something_else(answer: bytes) -> AsyncIterator[int]:
    """A server that says this to whoever connects, and nothing more."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await stop_listening(server)
