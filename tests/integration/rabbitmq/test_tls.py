"""TLS: a broker with a certificate of its own, and clients that trust it or do not."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from channels_trunk.testing.ports import LOOPBACK, free_port
from tests.integration.rabbitmq.conftest import MakeLayer, unreached, works
from tests.plugins.certificates import make_certificate
from tests.plugins.servers import RabbitServer
from tests.plugins.servers.process import give_to_account

BIG = {"type": "big", "text": "x" * 1_500_000}
SMALL = {"type": "small", "text": "x" * 500}
FILES = '[{{certfile, "{crt}"}}, {{keyfile, "{key}"}}]'
START = 'rabbit_networking:start_ssl_listener({{"{host}", {port}, auto}}, ' + FILES + ", 1)."
STOP = 'rabbit_networking:stop_tcp_listener({{"{host}", {port}}}).'


@pytest.fixture
def trusting() -> ssl.SSLContext:
    """The context of a client; trusts nobody so far."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture
def tls_url(broker: RabbitServer, url: str, trusting: ssl.SSLContext) -> Iterator[str]:
    """The broker's vhost by a second listener, which has a certificate that `trusting` knows."""
    certificate, key = make_certificate()
    trusting.load_verify_locations(cadata=certificate.decode())
    port = free_port()
    files: list[Path] = []
    # Names of their own each time: Erlang remembers what was in a file.
    for name, content in ((f"{port}.crt", certificate), (f"{port}.key", key)):
        files.append(broker.folder / name)
        files[-1].write_bytes(content)
        give_to_account(files[-1])
    broker.ctl("eval", START.format(host=LOOPBACK, port=port, crt=files[0], key=files[1]))
    parts = urlsplit(url)
    yield parts._replace(scheme="amqps", netloc=f"{parts.netloc.rpartition(':')[0]}:{port}").geturl()
    broker.ctl("eval", STOP.format(host=LOOPBACK, port=port))


async def test_tls(make_layer: MakeLayer, tls_url: str, trusting: ssl.SSLContext, broker: RabbitServer) -> None:
    one, other = make_layer(host=tls_url, ssl_context=trusting), make_layer(host=tls_url, ssl_context=trusting)
    await works(one, other)
    # More than one record, and more than the socket takes at once.
    channel = await other.new_channel()
    for _ in range(5):
        await one.send(channel, BIG)
    async with asyncio.timeout(60):
        assert [await other.receive(channel) for _ in range(5)] == [BIG] * 5
    # As many small ones behind a large one as fill the reader's buffer in many ways; nothing follows that would ring.
    for size in range(52_000, 62_000, 500):
        large = {"type": "large", "text": "x" * size}
        async with asyncio.timeout(60):
            await asyncio.gather(one.send(channel, large), *(one.send(channel, SMALL) for _ in range(12)))
            sizes = [len((await other.receive(channel))["text"]) for _ in range(13)]
        assert sorted(sizes) == [500] * 12 + [size]
    assert "tlsv1" in broker.ctl("list_connections", "ssl_protocol").lower()

    stranger = make_layer(host=tls_url, send_timeout=1)
    told = await unreached(stranger, r"(?i)certificate")
    assert (urlsplit(tls_url).password or "?") not in told
