"""TLS as libpq offers it: a server with a certificate of its own, and clients that ask for more or less of it."""

import os
import re
from pathlib import Path

import pytest

from channels_trunk.exceptions import ChannelLayerError
from tests.integration.postgres.conftest import HELLO, MakeLayer, ask, works
from tests.plugins.certificates import make_certificate
from tests.plugins.servers.postgres import OwnPostgresFactory
from tests.plugins.servers.postgres_server import OwnPostgres


def serve_tls(server: OwnPostgres, certificate: bytes, key: bytes) -> None:
    """Restart a server with this certificate; it alone may read the key."""
    server.stop()
    owner = server.data.stat()
    for name, content in (("server.crt", certificate), ("server.key", key)):
        path = server.data / name
        path.write_bytes(content)
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    with (server.data / "postgresql.auto.conf").open("a") as settings:
        settings.write("ssl = on\n")
    server.start()


async def test_tls(make_layer: MakeLayer, own_postgres: OwnPostgresFactory, tmp_path: Path) -> None:
    server = own_postgres()
    mine, other = make_certificate(), make_certificate()
    serve_tls(server, *mine)
    trusted, stranger = tmp_path / "trusted.crt", tmp_path / "stranger.crt"
    trusted.write_bytes(mine[0])
    stranger.write_bytes(other[0])
    dsn = server.fresh_database()

    required = make_layer(f"{dsn}?sslmode=require")
    verified = make_layer(f"{dsn}?sslmode=verify-full&sslrootcert={trusted}")
    await works(required, verified)
    rows = ask(
        dsn,
        "SELECT count(*), bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) "
        "WHERE a.application_name LIKE 'channels-trunk %%'",
    )
    assert rows == [(6, True)]

    doubtful = make_layer(f"{dsn}?sslmode=verify-full&sslrootcert={stranger}", send_timeout=1)
    with pytest.raises(ChannelLayerError, match="certificate verify failed") as caught:
        await doubtful.send("jobs", HELLO)
    assert not re.search(server.password, str(caught.value))
