"""The private RabbitMQ servers of a test run. They start slowly: each test here does all it can with one server.

What needs servers of its own runs on the default version alone; `--rabbitmq` chooses another.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import aiormq
import pytest

from channels_trunk.testing import eventually
from tests.plugins.servers import OwnRabbitFactory, RabbitClusterFactory, RabbitServer, keeper, on_every_rabbitmq
from tools.server_table import NEWEST_RABBITMQ, RABBITMQ_40, Program


async def works(url: str) -> bool:
    """Whether a queue can be made there."""
    try:
        connection = await aiormq.connect(url)
    except OSError:
        return False
    try:
        channel = await connection.channel()
        await channel.queue_declare("probe", auto_delete=True)
    finally:
        await connection.close()
    return True


def listening(pid: int) -> set[str]:
    """The addresses, in hexadecimal, at which a process and its children take TCP connections."""
    own = {link for child in keeper.descendants(pid) for link in open_files(child)}
    tables = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return {row[1].split(":")[0] for row in tables if row[3] == "0A" and f"socket:[{row[9]}]" in own}


def open_files(pid: int) -> Iterator[str]:
    """What a process has open; a broker starts short-lived processes, and closes files, while one looks."""
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(link.readlink())


@on_every_rabbitmq
async def test_each_is_of_the_version_that_was_asked_for(rabbit: RabbitServer, rabbitmq_program: Program) -> None:
    connection = await aiormq.connect(rabbit.fresh_vhost())
    version = str(connection.server_properties["version"])
    await connection.close()
    assert rabbit.ctl("version").strip() == version
    series = tuple(map(int, version.split(".")[:2]))
    assert (series == (4, 0)) == (rabbitmq_program is RABBITMQ_40)
    assert (series > (4, 0)) == (rabbitmq_program is NEWEST_RABBITMQ)


@on_every_rabbitmq
async def test_vhosts_are_their_own(rabbit: RabbitServer) -> None:
    one, other = rabbit.fresh_vhost(), rabbit.fresh_vhost()
    assert one != other
    assert await works(one)
    assert await works(other)
    assert await works(rabbit.url)


async def test_a_wrong_password_is_refused(rabbit: RabbitServer) -> None:
    with pytest.raises(aiormq.exceptions.ProbableAuthenticationError):
        await aiormq.connect(f"amqp://trunk:wrong@{rabbit.host}:{rabbit.port}/")


def test_it_listens_on_loopback_alone(rabbit: RabbitServer) -> None:
    assert listening(rabbit.process.pid) == {"0100007F"}


# aiormq 6 leaves the writer of a connection that the broker ended to the collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*StreamWriter.__del__")
async def test_what_an_administrator_does(own_rabbit: OwnRabbitFactory) -> None:
    server = own_rabbit()
    await closes_connections(server)
    await stops_publishers(server)
    await hangs(server)
    server.stop_app()
    assert not await works(server.url)
    server.start_app()
    assert await works(server.url)
    server.restart()
    assert await works(server.url)
    server.kill()
    assert not await works(server.url)


async def closes_connections(server: RabbitServer) -> None:
    connection = await aiormq.connect(server.url)
    server.close_all_connections()
    await eventually(lambda: connection.is_closed, within=10)


async def stops_publishers(server: RabbitServer) -> None:
    connection = await aiormq.connect(server.url)
    channel = await connection.channel()
    await channel.queue_declare("held")
    server.alarm(True)
    publishing = asyncio.ensure_future(channel.basic_publish(b"held", routing_key="held"))
    done, _ = await asyncio.wait([publishing], timeout=0.2)
    assert not done
    server.alarm(False)
    await asyncio.wait_for(publishing, 10)
    await connection.close()


async def hangs(server: RabbitServer) -> None:
    connection = await aiormq.connect(server.url)
    server.pause()
    opening = asyncio.ensure_future(connection.channel())
    done, _ = await asyncio.wait([opening], timeout=0.2)
    assert not done
    server.resume()
    await asyncio.wait_for(opening, 10)
    await connection.close()


async def test_three_nodes_are_one_cluster(rabbit_cluster: RabbitClusterFactory) -> None:
    nodes = rabbit_cluster()
    assert len(nodes) == 3
    assert nodes[2].ctl("eval", "length(rabbit_nodes:all_running()).").strip() == "3"
    url = nodes[0].fresh_vhost()
    vhost = url.rsplit("/", 1)[1]
    assert all([await works(node.url_for(vhost)) for node in nodes])
    nodes[0].kill()
    assert not await works(url)
    assert await works(nodes[1].url_for(vhost))
